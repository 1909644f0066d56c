//! What people and programs want to know of checkpoints, and to have done with them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use anyhow::Context;
use cellblock_checkpoints::{Manifest, ReadError, Reader};
use cellblock_proto::checkpoint::{CheckpointContent, CheckpointInfo, Collected, Keep, Verified};
use cellblock_proto::execution::NameInfo;
use cellblock_proto::store::StoreReply;

use super::{meant, not_restored, readable, retention, writable};

/// Checkpoints of one list.
const MOST_LISTED: usize = 1_000;

/// Names of one checkpoint that are told: a message has a megabyte.
const MOST_NAMES: usize = 3_000;

/// Losses of one checkpoint that are told; each is a chunk.
const MOST_LOSSES: usize = 1_000;

/// All of them, as far as they can be read.
pub fn list(folder: BorrowedFd<'_>) -> anyhow::Result<StoreReply> {
    let reader = readable(folder)?;
    let head = reader.head()?;
    let current = head.manifest.map(|manifest| manifest.id);
    let sizes: HashMap<u64, u64> =
        reader.candidates()?.into_iter().map(|candidate| (candidate.id, candidate.bytes)).collect();
    let mut ids = reader.ids()?;
    ids.drain(..ids.len().saturating_sub(MOST_LISTED));
    let mut checkpoints = Vec::with_capacity(ids.len());
    for id in ids {
        let own_bytes = sizes.get(&id).copied().unwrap_or(0);
        checkpoints.push(match reader.manifest(id) {
            Ok(manifest) => info(&reader, &manifest, current, own_bytes),
            // Removed meanwhile.
            Err(ReadError::None { .. }) => continue,
            Err(error) => damaged(id, own_bytes, &error),
        });
    }
    let damage = head.passed_over.iter().chain(reader.damage()).map(ToString::to_string).collect();
    Ok(StoreReply::Listed { checkpoints, used_bytes: reader.used_bytes()?, damage })
}

/// What is in one.
pub fn content(folder: BorrowedFd<'_>, checkpoint: Option<u64>) -> anyhow::Result<StoreReply> {
    let reader = readable(folder)?;
    let current = reader.head()?.manifest.map(|manifest| manifest.id);
    let manifest = reader.manifest(meant(&reader, checkpoint)?)?;
    let own = reader.candidates()?.into_iter().find(|candidate| candidate.id == manifest.id);
    let info = info(&reader, &manifest, current, own.map_or(0, |candidate| candidate.bytes));
    let mut names: Vec<NameInfo> = manifest
        .names
        .into_iter()
        .map(|name| NameInfo { name: name.name, kind: name.r#type, bytes: name.bytes })
        .collect();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names.truncate(MOST_NAMES);
    let left_out = manifest.left_out.into_iter().take(MOST_LOSSES).map(not_restored).collect();
    let packages = manifest.packages.into_iter().take(MOST_LOSSES).collect();
    Ok(StoreReply::Content(CheckpointContent { info, names, left_out, packages }))
}

fn info(reader: &Reader, manifest: &Manifest, current: Option<u64>, own_bytes: u64) -> CheckpointInfo {
    CheckpointInfo {
        id: manifest.id,
        parent: manifest.parent,
        created_ms: manifest.created_ms,
        execution: manifest.execution.clone(),
        current: current == Some(manifest.id),
        names: manifest.names.len() as u64,
        left_out: manifest.left_out.len() as u64,
        state_bytes: manifest.stream.bytes.saturating_add(manifest.layout.bytes),
        own_bytes,
        python: manifest.python.clone(),
        origin: manifest.origin.clone().map(|origin| (origin.notebook, origin.id)),
        damage: reader.check(manifest.id).err().map(|error| chain(&error)),
    }
}

/// One whose manifest cannot be read.
fn damaged(id: u64, own_bytes: u64, error: &ReadError) -> CheckpointInfo {
    CheckpointInfo {
        id,
        parent: None,
        created_ms: 0,
        execution: String::new(),
        current: false,
        names: 0,
        left_out: 0,
        state_bytes: 0,
        own_bytes,
        python: String::new(),
        origin: None,
        damage: Some(chain(error)),
    }
}

/// Reads every byte of one, or of all.
pub fn verify(folder: BorrowedFd<'_>, checkpoint: Option<u64>) -> anyhow::Result<StoreReply> {
    let reader = readable(folder)?;
    let ids = match checkpoint {
        Some(id) => vec![id],
        None => reader.ids()?,
    };
    let mut checkpoints = Vec::with_capacity(ids.len());
    for id in ids {
        match reader.manifest(id) {
            Ok(manifest) => checkpoints.push(Verified { id, losses: losses(&reader, &manifest) }),
            Err(error @ ReadError::None { .. }) if checkpoint.is_some() => return Err(error.into()),
            Err(ReadError::None { .. }) => {}
            Err(error) => checkpoints.push(Verified { id, losses: vec![chain(&error)] }),
        }
    }
    Ok(StoreReply::Verified { checkpoints })
}

fn losses(reader: &Reader, manifest: &Manifest) -> Vec<String> {
    let losses = reader.verify(manifest).into_iter().take(MOST_LOSSES);
    losses.map(|loss| format!("{}: {}", loss.part, chain(&loss.error))).collect()
}

/// Reads every byte of one that a worker has mapped. What is damaged is taken out of its pack, so that nobody maps
/// it again.
pub fn mend(folder: BorrowedFd<'_>, checkpoint: u64) -> anyhow::Result<StoreReply> {
    let reader = readable(folder)?;
    let manifest = match reader.manifest(checkpoint) {
        Err(ReadError::None { .. }) => return Ok(StoreReply::Mended { losses: Vec::new() }),
        manifest => manifest?,
    };
    let losses = reader.verify(&manifest);
    if !losses.is_empty() {
        writable(folder)?.mend(&losses)?;
    }
    let losses = losses.iter().take(MOST_LOSSES);
    let losses = losses.map(|loss| format!("{}: {}", loss.part, chain(&loss.error))).collect();
    Ok(StoreReply::Mended { losses })
}

/// Removes what the rule does not keep.
pub fn collect(folder: BorrowedFd<'_>, keep: Keep) -> anyhow::Result<StoreReply> {
    let mut store = writable(folder)?;
    let before = store.used_bytes();
    let removed = store.retain(&retention(keep))?;
    let collected = store.collect()?;
    Ok(StoreReply::Collected(Collected {
        removed,
        freed_bytes: before.saturating_sub(store.used_bytes()),
        used_bytes: store.used_bytes(),
        damage: collected.damaged.iter().map(ToString::to_string).collect(),
    }))
}

/// Writes one as a file.
pub fn export(
    folder: BorrowedFd<'_>,
    into: &mut impl Write,
    checkpoint: Option<u64>,
    notebook: &str,
) -> anyhow::Result<StoreReply> {
    let reader = readable(folder)?;
    let mut into = io::BufWriter::with_capacity(1 << 20, into);
    reader.export(meant(&reader, checkpoint)?, notebook, &mut into)?;
    into.flush().context("failed to write the file")?;
    Ok(StoreReply::Done)
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
