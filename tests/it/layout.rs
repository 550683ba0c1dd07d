//! Where files lie: new ones as the layout says, old ones where they are.

use crate::world::{World, vpc};
use git_intake::model::fabric::{FabricName, Layout};
use git_intake::model::report::Action;

#[test]
fn the_layout_says_where_new_files_lie_and_what_is_filed_stays_where_it_is() {
    let mut world = World::new();
    world.drop("a.yaml", vpc("a"));
    world.turn();

    world.settings.layout = Layout::Sharded;
    world.drop("a-again.yaml", vpc("a").replace("1001", "1002"));
    world.drop("b.yaml", vpc("b"));
    let other = vpc("b").replace("  name: b\n", "  name: b\n  namespace: x\n");
    world.drop("other.yaml", &other);
    let report = world.turn();
    let actions = report.files.iter().map(|it| it.documents[0].action);
    assert_eq!(actions.collect::<Vec<_>>(), [Action::Updated, Action::Created, Action::Created]);
    let clone = world.clone_of_remote();
    let places = ["managed/vpcs/_3e/b.yaml", "managed/vpcs/a.yaml", "managed/vpcs/x/_3e/b.yaml"];
    assert_eq!(clone.keys().collect::<Vec<_>>(), places);
    assert_eq!(clone["managed/vpcs/x/_3e/b.yaml"], other);
    world.at_rest();

    // Flat again: what lies in a shard is still the same resource, with or without the store.
    world.settings.layout = Layout::Flat;
    for store in ["kept", "made again"] {
        if store == "made again" {
            let name = FabricName::parse("fabric-1").unwrap();
            let mut lane = world.open().unwrap();
            assert_eq!(git_intake::agent::verify::rebuild(&mut lane).unwrap(), 3);
            let paths = lane.store.records(&name).map(|it| it.unwrap().path.to_string());
            assert_eq!(paths.filter(|it| it.contains("/_3e/")).count(), 2);
        }
        let vlan = if store == "kept" { "1003" } else { "1004" };
        world.drop("b.yaml", vpc("b").replace("1001", vlan));
        assert_eq!(world.turn().files[0].documents[0].action, Action::Updated);
        assert_eq!(world.clone_of_remote().keys().collect::<Vec<_>>(), places);
        world.at_rest();
    }
}

#[test]
fn a_fabric_may_have_a_layout_of_its_own_and_others_edits_in_it_are_followed() {
    let mut world = World::new();
    world.repository.fabrics[0].layout = Some(Layout::Sharded);
    world.drop("a.yaml", vpc("a"));
    world.turn();
    let other = World::beside(&world);
    let path = "fabric-1/managed/vpcs/_ca/a.yaml";
    std::fs::write(other.work().join(path), vpc("a").replace("1001", "1009")).unwrap();
    other.git(&["commit", "-qam", "edit"]);
    other.git(&["push", "-q", "origin", "main"]);
    world.drop("b.yaml", vpc("b"));
    world.turn();
    let clone = world.clone_of_remote();
    assert!(clone["managed/vpcs/_ca/a.yaml"].contains("1009"));
    assert!(clone.contains_key("managed/vpcs/_3e/b.yaml"));
    world.at_rest();
}
