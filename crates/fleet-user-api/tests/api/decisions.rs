//! Decisions about sources: who may, what they name, and what is written down.

use axum::http::{Method, StatusCode};
use fleet_model::Role;
use serde_json::{Value, json};

use crate::{Answer, World};

const HELD: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn digest(byte: &str) -> String {
    format!("sha256:{}", byte.repeat(32))
}

fn hold(world: &World, byte: &str) {
    world.sql(&format!(
        "insert into source_holds (org_id, source, commit_id, base_commit, reason, sentences, digest, summary, plan, held_at)
         values ('00000000-0000-0000-0000-000000000000', 'fleets', '{HELD}', '{}', 'BlastRadius',
                 '{{removes 2 of 3 fleets}}', '\\x{}', '{{\"sentence\": \"2 objects go\"}}', '{{}}', '2026-01-02T03:04:05Z')
         on conflict (org_id, source) do update set digest = excluded.digest, approved = null, decided_by = null,
           decided_at = null, decided_digest = null, decision_reason = null",
        "a".repeat(40),
        byte.repeat(32),
    ));
}

async fn post(world: &World, what: &str, body: Value) -> Answer {
    world.send(Role::Admin, Method::POST, &format!("/sources/fleets/{what}"), Some(body)).await
}

#[tokio::test]
async fn a_decision_counts_for_exactly_what_is_held() {
    let world = World::new().await;
    world.fill();
    let approval =
        |byte: &str, commit: &str| json!({"digest": digest(byte), "commit": commit, "reason": "shop closes"});
    let none = post(&world, "approve", approval("ab", HELD)).await;
    assert_eq!(none.code, StatusCode::CONFLICT, "{}", none.body);
    assert!(none.message().contains("no commit"), "{}", none.message());
    hold(&world, "ab");
    let shown = world.get("/sources/fleets").await.ok();
    assert_eq!(
        shown["status"]["held"],
        json!({
            "commit": HELD, "digest": digest("ab"), "reason": "BlastRadius", "sentences": ["removes 2 of 3 fleets"],
            "since": "2026-01-02T03:04:05Z", "summary": {"sentence": "2 objects go"},
        })
    );
    let plan = world.get(&format!("/sources/fleets/plans/{HELD}")).await.ok();
    assert_eq!((&plan["status"]["held"], &plan["status"]["digest"]), (&json!(true), &json!(digest("ab"))));
    for (byte, commit) in [("cd", HELD), ("ab", &*"a".repeat(40))] {
        let other = post(&world, "approve", approval(byte, commit)).await;
        assert_eq!(other.code, StatusCode::CONFLICT, "{}", other.body);
        assert!(other.message().contains(&digest("ab")), "it names what is held: {}", other.message());
    }
    for bad in [
        json!({}),
        json!({"digest": digest("ab")}),
        json!({"digest": "sha256:ab", "commit": HELD}),
        json!({"digest": digest("ab"), "commit": HELD, "reason": "a\nb"}),
        json!({"digest": digest("ab"), "commit": HELD, "force": true}),
    ] {
        assert_eq!(post(&world, "approve", bad.clone()).await.code, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(world.events(), "", "nothing was decided so far");
    for _ in 0..2 {
        let decision = post(&world, "approve", approval("ab", HELD)).await.ok()["status"]["held"]["decision"].clone();
        assert_eq!((&decision["approved"], &decision["by"]), (&json!(true), &json!("user:ann")));
        assert_eq!(decision["reason"], "shop closes");
    }
    assert_eq!(world.events(), "Source fleets HoldApproved user:ann", "sent again, it is no news");
    let rejected = post(&world, "reject", json!({"digest": digest("ab")})).await.ok();
    assert_eq!(rejected["status"]["held"]["reason"], "Rejected");
    assert_eq!(post(&world, "reject", json!({"digest": digest("cd")})).await.code, StatusCode::CONFLICT);
    assert!(world.events().ends_with(";Source fleets HoldRejected user:ann"), "{}", world.events());
    let message = world.sql("select message || ' ' || (details->>'reason') from events where reason = 'HoldApproved'");
    assert_eq!(message.trim(), format!("Plan {} was approved: shop closes shop closes", "ab".repeat(6)));
}

#[tokio::test]
async fn a_suspension_has_a_reason_and_an_end_that_lies_ahead() {
    let world = World::new().await;
    world.fill();
    for bad in [
        json!({}),
        json!({"reason": " "}),
        json!({"reason": "x", "until": "2001-01-01T00:00:00Z"}),
        json!({"reason": "x", "until": "soon"}),
        json!({"reason": "x".repeat(501)}),
    ] {
        assert_eq!(post(&world, "suspend", bad.clone()).await.code, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(post(&world, "resume", json!({})).await.ok()["status"]["suspended"], Value::Null);
    assert_eq!(world.events(), "");
    for _ in 0..2 {
        let suspended = post(&world, "suspend", json!({"reason": "stocktaking"})).await.ok();
        let suspended = &suspended["status"]["suspended"];
        assert_eq!((&suspended["reason"], &suspended["by"]), (&json!("stocktaking"), &json!("user:ann")));
        assert_eq!(suspended["until"], Value::Null);
    }
    assert_eq!(post(&world, "resume", json!({"reason": "done"})).await.ok()["status"]["suspended"], Value::Null);
    assert_eq!(world.events(), "Source fleets SourceSuspended user:ann;Source fleets SourceResumed user:ann");
}
