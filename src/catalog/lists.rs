//! How the lists of our kinds are told apart item by item.
//!
//! Hedgehog's CRDs declare no map keys, so these follow from what the controllers take for one
//! thing: a link by its port, a neighbour by its address. A list that is not here is one value.

use crate::model::field::FieldStep;

/// How two versions of a list are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListRule {
    /// Items are told apart by the value of this field; a dotted one lies deeper.
    Keyed(&'static str),
    /// Items are plain values whose order says nothing.
    Set,
}

use ListRule::{Keyed, Set};

/// Kind and path (`*` is any key, `[]` any item), and how its items are told apart.
const RULES: &[(&str, &str, ListRule)] = &[
    ("Switch", "spec.groups", Set),
    ("Switch", "spec.vlanNamespaces", Set),
    ("Connection", "spec.bundled.links", Keyed("server.port")),
    ("Connection", "spec.mclag.links", Keyed("server.port")),
    ("Connection", "spec.eslag.links", Keyed("server.port")),
    ("Connection", "spec.fabric.links", Keyed("leaf.port")),
    ("Connection", "spec.gateway.links", Keyed("gateway.port")),
    ("Connection", "spec.mesh.links", Keyed("leaf1.port")),
    ("Connection", "spec.vpcLoopback.links", Keyed("switch1.port")),
    ("Connection", "spec.mclagDomain.peerLinks", Keyed("switch1.port")),
    ("Connection", "spec.mclagDomain.sessionLinks", Keyed("switch1.port")),
    ("Connection", "spec.staticExternal.link.switch.subnets", Set),
    ("VLANNamespace", "spec.ranges", Keyed("from")),
    ("VPC", "spec.staticRoutes", Keyed("prefix")),
    ("VPC", "spec.staticRoutes.[].nextHops", Set),
    ("VPC", "spec.subnets.*.dhcp.options.advertisedRoutes", Keyed("destination")),
    ("VPCPeering", "spec.permit.[].*.subnets", Set),
    ("IPv4Namespace", "spec.subnets", Set),
    ("External", "spec.static.prefixes", Set),
    ("ExternalPeering", "spec.permit.vpc.subnets", Set),
    ("ExternalPeering", "spec.permit.external.prefixes", Keyed("prefix")),
    ("ExternalAttachment", "spec.inboundACL.statements", Keyed("seq")),
    ("Gateway", "spec.groups", Keyed("name")),
    ("Gateway", "spec.neighbors", Keyed("ip")),
    ("Gateway", "spec.interfaces.*.ips", Set),
    ("GatewayPeering", "spec.acl.rules", Keyed("name")),
    ("FabNode", "spec.roles", Set),
    ("Fabricator", "spec.config.fabric.vpcIRBVLANs", Keyed("from")),
    ("Fabricator", "spec.config.fabric.vpcWorkaroundVLANs", Keyed("from")),
    ("Fabricator", "spec.config.fabric.th5WorkaroundVLANs", Keyed("from")),
    ("Fabricator", "spec.config.control.tlsSAN", Set),
];

/// How the list at `path` of a kind is compared; none means as one value.
pub fn list_rule(kind: &str, path: &[FieldStep]) -> Option<ListRule> {
    let matches = |pattern: &str| {
        let mut steps = path.iter();
        let all = pattern.split('.').all(|part| match (part, steps.next()) {
            (_, None) => false,
            ("*", Some(FieldStep::Key(_))) => true,
            (part, Some(FieldStep::Key(key))) => part == key,
            (part, Some(FieldStep::Item { .. } | FieldStep::Index(_))) => part == "[]",
        });
        all && steps.next().is_none()
    };
    RULES.iter().find(|(it, pattern, _)| *it == kind && matches(pattern)).map(|it| it.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::field::FieldPath;

    #[test]
    fn lists_are_found_by_their_place() {
        let rule = |kind: &str, path: &str| list_rule(kind, &path.parse::<FieldPath>().unwrap().0);
        assert_eq!(rule("Gateway", "spec.neighbors"), Some(Keyed("ip")));
        assert_eq!(rule("VPC", "spec.staticRoutes[prefix=x].nextHops"), Some(Set));
        assert_eq!(
            rule("VPC", "spec.subnets.a.dhcp.options.advertisedRoutes"),
            Some(Keyed("destination"))
        );
        assert_eq!(rule("VPC", "spec.permit"), None);
        assert_eq!(rule("Server", "spec.neighbors"), None);
    }

    #[test]
    fn every_rule_is_of_a_kind_that_there_is() {
        let catalog = crate::catalog::Catalog::hedgehog();
        for (kind, _, _) in RULES {
            assert!(catalog.nearest(kind).is_some_and(|it| it.kind == *kind), "{kind}");
        }
    }
}
