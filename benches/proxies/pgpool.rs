//! Pgpool-II in front of a primary and its replicas: as distributed, but for what the comparison needs.

use crate::Failure;
use crate::bed::{Bed, NAME, PASSWORD};
use crate::process::{Process, give, write_private};
use crate::targets::{as_account, own_file};

/// Clients that it may have: each has a process of its own.
const MOST_CLIENTS: u32 = 70;

/// Starts it.
pub fn start(bed: &Bed, port: u16) -> Result<Process, Failure> {
    let account = bed.account.as_ref();
    let [config, hba, passwords, control] =
        ["pgpool.conf", "pool_hba.conf", "pool_passwd", "pcp.conf"].map(|name| own_file(bed, port, name));
    write_private(&passwords, &format!("{NAME}:TEXT{PASSWORD}\n"), account)?;
    write_private(&hba, "host all all 127.0.0.1/32 scram-sha-256\n", account)?;
    write_private(&control, "", account)?;
    // What is in there it takes for its own, and removes.
    let oids = own_file(bed, port, "oids");
    std::fs::create_dir(&oids)?;
    give(&oids, account)?;
    let dir = bed.dir().display();
    let mut text = format!(
        "backend_clustering_mode = 'streaming_replication'\nlisten_addresses = '127.0.0.1'\nport = {port}\n\
         pcp_listen_addresses = ''\npcp_port = {}\n\
         socket_dir = '{dir}'\npcp_socket_dir = '{dir}'\nwd_ipc_socket_dir = '{dir}'\nlogdir = '{dir}'\n\
         pid_file_name = '{dir}/{port}-pgpool.pid'\nmemqcache_oiddir = '{dir}/{port}-oids'\nwork_dir = '{dir}'\n\
         enable_pool_hba = on\npool_passwd = '{}'\n\
         num_init_children = {MOST_CLIENTS}\nmax_pool = 1\nload_balance_mode = on\n\
         sr_check_period = 1\nsr_check_user = '{NAME}'\nsr_check_password = '{PASSWORD}'\nsr_check_database = '{NAME}'\n",
        turnpike::app::cluster::free_port(),
        passwords.display(),
    );
    let ports = [vec![bed.port()], bed.replicas()].concat();
    for (i, port) in ports.iter().enumerate() {
        text += &format!("backend_hostname{i} = '127.0.0.1'\nbackend_port{i} = {port}\n");
    }
    write_private(&config, &text, account)?;
    let mut command = as_account("pgpool", bed);
    command.arg("-n").arg("-f").arg(config).arg("-a").arg(hba).arg("-F").arg(control);
    Process::start(command, own_file(bed, port, "pgpool.log"))
}
