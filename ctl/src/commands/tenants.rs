//! `cellctl tenants`

use cellblock_proto::operations::TenantInfo;
use clap::Args;
use serde::Serialize;

use super::{print, print_json, table};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

/// List the tenants, what each uses and may use; for operators
///
/// One line each: its name, the user ids that are it, and for what is capped `used/most`, without the `/most`
/// where it has no cap of its own. docs/tenants.md tells what is counted, and how caps are set.
#[derive(Args, Debug)]
pub(crate) struct Tenants {
    #[command(flatten)]
    socket: SocketArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    tenants: Vec<TenantInfo>,
}

impl Tenants {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let tenants = Session::find(&self.socket)?.connection.tenants()?;
        if self.json {
            print_json(&Document { tenants })?;
        } else {
            print(&list(&tenants))?;
        }
        Ok(Exit::Ok)
    }
}

fn list(tenants: &[TenantInfo]) -> String {
    let columns = ["TENANT", "UIDS", "RUNNING", "WORKERS", "NOTEBOOKS", "QUEUED", "CONNECTIONS", "BUFFERED"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    rows.extend(tenants.iter().map(|info| {
        let TenantInfo { tenant, uids, operator, uses, limits } = info;
        let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
        let counts = [
            (uses.running, limits.running),
            (uses.workers, limits.workers),
            (uses.notebooks, limits.notebooks),
            (uses.queued, limits.queued),
            (uses.connections, limits.connections),
        ];
        let name = if *operator { format!("{tenant} (operator)") } else { tenant.to_string() };
        let mut row = vec![name, if uids.is_empty() { "-".to_owned() } else { uids.join(",") }];
        row.extend(counts.map(|(used, most)| share(used.into(), most.into(), |count| count.to_string())));
        row.push(share(uses.buffered_bytes, limits.buffered_bytes, bytes));
        row
    }));
    table(&rows)
}

fn share(used: u64, most: u64, show: impl Fn(u64) -> String) -> String {
    if most == 0 { show(used) } else { format!("{}/{}", show(used), show(most)) }
}

fn bytes(count: u64) -> String {
    if count < 10 << 20 { format!("{}K", count >> 10) } else { format!("{}M", count >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellblock_proto::operations::TenantLimits;

    #[test]
    fn each_has_a_line_with_what_it_uses_and_may() {
        let uses = TenantLimits {
            running: 1,
            workers: 2,
            notebooks: 3,
            buffered_bytes: 5 << 10,
            ..Default::default()
        };
        let limits = TenantLimits { notebooks: 9, buffered_bytes: 64 << 20, ..Default::default() };
        let tenant = |name: &str, uids: &[u32], operator| TenantInfo {
            tenant: name.parse().unwrap(),
            uids: uids.to_vec(),
            operator,
            uses,
            limits,
        };
        let told = list(&[tenant("lab", &[1000, 1001], false), tenant("operator", &[], true)]);
        insta::assert_snapshot!(told, @"
        TENANT               UIDS       RUNNING  WORKERS  NOTEBOOKS  QUEUED  CONNECTIONS  BUFFERED
        lab                  1000,1001  1        2        3/9        0       0            5K/64M
        operator (operator)  -          1        2        3/9        0       0            5K/64M
        ");
    }
}
