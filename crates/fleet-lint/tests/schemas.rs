//! The committed schemas are those the linter validates with. `UPDATE_SCHEMAS=1` writes them.

use std::path::Path;

#[test]
fn committed_schemas_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let generated = fleet_lint::schema::generate();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        for (name, text) in &generated {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    for (name, text) in &generated {
        let committed = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(committed == *text, "schemas/{name} is not current: run this test with UPDATE_SCHEMAS=1 and commit");
    }
    let committed =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in committed.filter(|name| name.ends_with(".json")) {
        assert!(generated.contains_key(&name), "schemas/{name} is not generated any more: remove it");
    }
}
