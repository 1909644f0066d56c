//! What a client asks of cellblockd.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Keep;
use crate::client::Hello;
#[cfg(doc)]
use crate::client::Reply;
use crate::execution::ExecuteOptions;
use crate::id::{ExecutionId, NotebookId};
#[cfg(doc)]
use crate::info::FileInfo;
use crate::query::Query;

/// What a client asks. The request id in the header is the client's to choose; it must not be 0
/// and not be one that is still being answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first frame, always JSON. Answer: [`Reply::Hello`].
    Hello(Hello),
    /// Makes the notebook known; nothing runs yet. Idempotent. Answer: [`Reply::Notebook`].
    OpenNotebook {
        /// Which.
        notebook: NotebookId,
        /// The profile; `default` when absent. A notebook keeps the profile it was opened with
        /// until it is closed.
        #[serde(default)]
        profile: Option<String>,
    },
    /// Runs the payload. Answers: [`Reply::Accepted`], then [`Reply::Output`]s, then one
    /// [`Reply::Outcome`]. Sent again under the same execution id it is an `Attach` from 0.
    Execute {
        /// Where.
        notebook: NotebookId,
        /// Chosen by the client, unique within the notebook.
        execution: ExecutionId,
        /// How.
        #[serde(default)]
        options: ExecuteOptions,
    },
    /// Reads an Execution from an output on, whoever started it. Answers as to `Execute`.
    Attach {
        /// Where.
        notebook: NotebookId,
        /// Which.
        execution: ExecutionId,
        /// The first output wanted; earlier ones have been read.
        from_seq: u64,
    },
    /// Interrupts what runs. Answer: [`Reply::Done`], when the signal is on its way.
    Interrupt {
        /// Where.
        notebook: NotebookId,
    },
    /// Takes an Execution out of the queue, or interrupts it when it runs already.
    /// Answer: [`Reply::Done`].
    Cancel {
        /// Where.
        notebook: NotebookId,
        /// Which.
        execution: ExecutionId,
    },
    /// Answers an `InputRequest`. Answer: [`Reply::Done`].
    Input {
        /// Where.
        notebook: NotebookId,
        /// Whose question.
        execution: ExecutionId,
        /// What was typed, without the newline.
        value: String,
    },
    /// Asks about the notebook without running code. Answer: [`Reply::Answer`].
    Query {
        /// Where.
        notebook: NotebookId,
        /// What.
        query: Query,
    },
    /// Ends the worker; the next Execution gets a new one. Answer: [`Reply::Done`].
    Restart {
        /// Which.
        notebook: NotebookId,
    },
    /// Ends the worker and forgets the notebook; its files stay. Answer: [`Reply::Done`].
    Close {
        /// Which.
        notebook: NotebookId,
    },
    /// `Close`, and its files go too. Answer: [`Reply::Done`].
    Delete {
        /// Which.
        notebook: NotebookId,
    },
    /// The first notebooks of the caller, by name. Answer: [`Reply::Notebooks`].
    Notebooks,
    /// The next ones. Answer: [`Reply::Notebooks`].
    NotebooksAfter {
        /// The last name that is known.
        after: NotebookId,
    },
    /// One notebook in full. Answer: [`Reply::Status`].
    Status {
        /// Which.
        notebook: NotebookId,
    },
    /// What the host can enforce. Answer: [`Reply::Doctor`].
    Doctor,
    /// Jupyter's comms need a live object on both sides; cellblock refuses them by name.
    Comm {
        /// The target that the front end wanted.
        target: String,
    },
    /// Ends cellblockd; with it all workers when it is private. Answer: [`Reply::Done`].
    Shutdown,
    /// The profiles that a notebook can be opened with. Answer: [`Reply::Profiles`].
    Profiles,
    /// Zygotes and spares, by profile. Answer: [`Reply::Warm`].
    Warm,
    /// The steps that make a sandbox of this profile on this host. Answer: [`Reply::Plan`].
    Plan {
        /// The profile; `default` when absent.
        #[serde(default)]
        profile: Option<String>,
    },
    /// The names in a folder of the workspace. Answer: [`Reply::Files`].
    ListFiles {
        /// Whose workspace.
        notebook: NotebookId,
        /// The folder, relative to the workspace; empty for the workspace itself. See [`FileInfo::name`].
        #[serde(default)]
        path: String,
    },
    /// A part of a file of the workspace. Answer: [`Reply::File`], the bytes as payload.
    ReadFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// The file, relative to the workspace.
        path: String,
        /// The first byte wanted.
        #[serde(default)]
        offset: u64,
        /// At most so many bytes; fewer come at the file's end.
        bytes: u32,
    },
    /// Writes the payload into a file of the workspace, and makes the folders above it. Answer:
    /// [`Reply::Done`].
    WriteFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// The file, relative to the workspace.
        path: String,
        /// Where the payload goes; 0 begins the file anew, and what it held is gone.
        #[serde(default)]
        offset: u64,
    },
    /// Removes a file, or a folder with all that is in it. Answer: [`Reply::Done`].
    RemoveFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// What, relative to the workspace.
        path: String,
    },
    /// Saves the variables now, or when the cell that runs has ended. Answer: [`Reply::Checkpoint`], when it is saved.
    Checkpoint {
        /// Whose.
        notebook: NotebookId,
    },
    /// The checkpoints kept. Answer: [`Reply::Checkpoints`].
    Checkpoints {
        /// Whose.
        notebook: NotebookId,
    },
    /// What is in a checkpoint. Answer: [`Reply::CheckpointContent`].
    CheckpointContent {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Ends the worker, and starts one with the variables as they were. What has been saved since stays in the store.
    /// Answer: [`Reply::Restored`], when it is up.
    Restore {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Makes a new notebook that begins with the variables of a checkpoint; its workspace is empty.
    /// Answer: [`Reply::Notebook`].
    Fork {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
        /// The new notebook, of which there must be nothing yet. It has the profile of the old one.
        to: NotebookId,
    },
    /// A checkpoint as one file. Answers: [`Reply::Part`]s, their payloads are the file; then [`Reply::Done`].
    ExportCheckpoint {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Takes over an exported checkpoint, which comes in parts as payloads. It becomes the current one where there was
    /// none, else it is for `Restore`. Answer: [`Reply::Done`], to the last part [`Reply::Imported`].
    ImportCheckpoint {
        /// Whose it is to be.
        notebook: NotebookId,
        /// Where the part begins in the file; 0 begins it anew.
        offset: u64,
        /// Nothing follows it.
        last: bool,
    },
    /// Reads every byte of a checkpoint. Answer: [`Reply::Verified`].
    VerifyCheckpoints {
        /// Whose.
        notebook: NotebookId,
        /// Which; all when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Removes the checkpoints that the rule does not keep, and all that none refers to any more. The current one and
    /// the newest stay in any case. Answer: [`Reply::Collected`].
    CollectCheckpoints {
        /// Whose.
        notebook: NotebookId,
        /// The rule; the profile's when absent.
        #[serde(default)]
        keep: Option<Keep>,
    },
    /// Ends the worker and removes all its checkpoints; files and profile stay. Answer: [`Reply::Done`].
    Clear {
        /// Whose.
        notebook: NotebookId,
    },
    /// Tells from now on what happens, until the connection ends. Answers: [`Reply::Listening`], then
    /// [`Reply::Event`]s.
    Events {
        /// In which notebook; in all of the caller's when absent.
        #[serde(default)]
        notebook: Option<NotebookId>,
        /// In those of all tenants; for operators.
        #[serde(default)]
        all: bool,
    },
    /// Keeps the worker, or lets it be evicted like any other. Holds until it is said otherwise, over restarts of
    /// the daemon too. Answer: [`Reply::Notebook`].
    Pin {
        /// Whose.
        notebook: NotebookId,
        /// Whether it stays.
        pinned: bool,
    },
    /// Saves the variables and ends the worker, which comes back with the next request. Refused as `busy` while
    /// something runs or waits. Answer: [`Reply::Done`], when it has ended.
    Evict {
        /// Whose.
        notebook: NotebookId,
    },
    /// No new Execution is taken from now on; what runs has time, what is being saved is finished; then cellblockd
    /// ends. For operators. Answer: [`Reply::Drained`].
    Drain {
        /// How long what runs has, in seconds; as the daemon was told when absent.
        #[serde(default)]
        seconds: Option<u32>,
    },
    /// Figures of the daemon, for operators. Answer: [`Reply::Metrics`], Prometheus' text format as payload.
    Metrics,
    /// The daemon and all notebooks of all tenants, for operators. Answer: [`Reply::Overview`].
    Overview,
    /// The tenants, what they may use and what they use, for operators. Answer: [`Reply::Tenants`].
    Tenants,
}
