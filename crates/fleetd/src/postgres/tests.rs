//! The embedded database with the real server: creation, restarts, crashes, orphans.

use std::path::Path;

use super::*;

/// A data directory that the server's user can reach.
fn data_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("shorebase-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

async fn start(dir: &Path) -> EmbeddedPostgres {
    EmbeddedPostgres::start(dir).await.unwrap()
}

/// Runs SQL and returns the bare output.
async fn sql(postgres: &EmbeddedPostgres, statement: &str) -> String {
    let installations = installed::find_all().await;
    let psql = newest_psql(&installations);
    let mut command = Command::new(psql);
    command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", &postgres.url(), "-c", statement]);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn newest_psql(installations: &[Installation]) -> PathBuf {
    let beside = installed::newest(installations).unwrap().bin_dir.join("psql");
    if beside.exists() { beside } else { "psql".into() }
}

/// Starts the server of a stopped database as a killed service would have left it: without a parent that knows it.
async fn orphan(dir: &Path) -> Child {
    let user = installed::server_user().unwrap();
    let layout = Layout::prepare(dir, user.as_ref()).unwrap();
    let installations = installed::find_all().await;
    let newest = installed::newest(&installations).unwrap();
    let mut command = server_command(&layout, newest, user.as_ref());
    let mut server = command.stderr(Stdio::null()).spawn().unwrap();
    let status = wait_until_ready(&layout, &mut server, Instant::now(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(status, None);
    server
}

#[tokio::test]
async fn data_survives_a_restart_and_nothing_runs_after_a_stop() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    sql(&postgres, "create table t as select 7 as x").await;
    assert_eq!(sql(&postgres, "show fsync").await, "on");
    assert_eq!(sql(&postgres, "show data_checksums").await, "on");
    assert_eq!(sql(&postgres, "show listen_addresses").await, "");
    assert_eq!(sql(&postgres, "show server_encoding").await, "UTF8");
    let pid = postgres.server.id().unwrap();
    postgres.stop().await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let again = start(dir.path()).await;
    assert_eq!(sql(&again, "select x from t").await, "7");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_its_data_recovered() {
    let dir = data_dir();
    let mut postgres = start(dir.path()).await;
    sql(&postgres, "create table t as select 7 as x").await;
    kill_process(process_id(&postgres.server).unwrap(), Signal::KILL).unwrap();
    let error = tokio::time::timeout(Duration::from_secs(10), postgres.ended()).await.unwrap();
    assert!(matches!(error, PostgresError::Ended { .. }), "{error}");
    drop(postgres);
    let again = start(dir.path()).await;
    assert_eq!(sql(&again, "select x from t").await, "7");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_of_a_killed_service_is_taken_over() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    sql(&postgres, "create table t as select 7 as x").await;
    postgres.stop().await.unwrap();
    let mut left = orphan(dir.path()).await;
    let postgres = start(dir.path()).await;
    assert!(left.try_wait().unwrap().is_some(), "the server of the earlier run still runs");
    assert_eq!(sql(&postgres, "select x from t").await, "7");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_service_on_the_same_directory_is_refused() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let error = EmbeddedPostgres::start(dir.path()).await.unwrap_err();
    assert!(matches!(error, PostgresError::InUse { .. }), "{error}");
    assert_eq!(sql(&postgres, "select 1").await, "1");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_gets_the_socket_elsewhere() {
    let dir = data_dir();
    let long = dir.path().join(format!("{}/a b,c\"d&e", "x".repeat(120)));
    let postgres = start(&long).await;
    assert!(!postgres.layout.socket_dir.starts_with(dir.path()));
    assert_eq!(sql(&postgres, "select 1").await, "1");
    let socket_dir = postgres.layout.socket_dir.clone();
    postgres.stop().await.unwrap();
    std::fs::remove_dir_all(socket_dir).unwrap();
}

#[tokio::test]
async fn an_interrupted_creation_is_begun_again() {
    let dir = data_dir();
    let unfinished = dir.path().join("postgres/cluster.new/base");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("half"), b"").unwrap();
    let postgres = start(dir.path()).await;
    assert_eq!(sql(&postgres, "select 1").await, "1");
    postgres.stop().await.unwrap();
    assert!(!dir.path().join("postgres/cluster.new").exists());
}

#[tokio::test]
async fn a_cluster_of_another_version_is_refused_with_both_versions() {
    let dir = data_dir();
    let cluster = dir.path().join("postgres/cluster");
    std::fs::create_dir_all(&cluster).unwrap();
    std::fs::write(cluster.join("PG_VERSION"), "12\n").unwrap();
    let error = EmbeddedPostgres::start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("made by PostgreSQL 12, but only "), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    std::fs::write(dir.path().join("postgres/cluster/postgresql.conf"), "no such setting = 1\n").unwrap();
    let error = EmbeddedPostgres::start(dir.path()).await.unwrap_err();
    assert!(matches!(error, PostgresError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("syntax error"), "{error}");
    assert!(dir.path().join("postgres/server.log").metadata().unwrap().len() > 0);
}
