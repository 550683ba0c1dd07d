//! Which fields of our kinds name other resources, and what they name.
//!
//! The admission webhooks refuse a resource that names what is not there, and the deletion of one
//! that is still named.

use crate::model::document::Naming;
use crate::yaml::{Content, Node};

/// A kind, by group and name.
type Kind = (&'static str, &'static str);

const SWITCH: Kind = ("wiring.githedgehog.com", "Switch");
const SERVER: Kind = ("wiring.githedgehog.com", "Server");
const CONNECTION: Kind = ("wiring.githedgehog.com", "Connection");
const SWITCH_GROUP: Kind = ("wiring.githedgehog.com", "SwitchGroup");
const VLAN_NAMESPACE: Kind = ("wiring.githedgehog.com", "VLANNamespace");
const VPC: Kind = ("vpc.githedgehog.com", "VPC");
const VPC_ATTACHMENT: Kind = ("vpc.githedgehog.com", "VPCAttachment");
const VPC_PEERING: Kind = ("vpc.githedgehog.com", "VPCPeering");
const EXTERNAL: Kind = ("vpc.githedgehog.com", "External");
const EXTERNAL_ATTACHMENT: Kind = ("vpc.githedgehog.com", "ExternalAttachment");
const EXTERNAL_PEERING: Kind = ("vpc.githedgehog.com", "ExternalPeering");
const IPV4_NAMESPACE: Kind = ("vpc.githedgehog.com", "IPv4Namespace");
const GATEWAY: Kind = ("gateway.githedgehog.com", "Gateway");
const GATEWAY_GROUP: Kind = ("gateway.githedgehog.com", "GatewayGroup");
const GATEWAY_PEERING: Kind = ("gateway.githedgehog.com", "GatewayPeering");

/// How a field names something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By its name.
    Name,
    /// By its name; `default` is there in every fabric.
    NameOrDefault,
    /// As `name/part`.
    Part,
    /// As `device/port`.
    Port,
    /// A VPC by its name, or an External as `ext.name`.
    Peer,
}

/// Kind, field, form, and what is named. In a field `[]` is any item, `*` the value of any key,
/// `{}` the keys themselves, and `**` any depth.
const ROWS: &[(Kind, &str, Form, &[Kind])] = &[
    (CONNECTION, "spec.**.port", Form::Port, &[SWITCH, SERVER, GATEWAY]),
    (SWITCH, "spec.groups.[]", Form::Name, &[SWITCH_GROUP]),
    (SWITCH, "spec.redundancy.group", Form::Name, &[SWITCH_GROUP]),
    (SWITCH, "spec.vlanNamespaces.[]", Form::NameOrDefault, &[VLAN_NAMESPACE]),
    (VPC, "spec.ipv4Namespace", Form::NameOrDefault, &[IPV4_NAMESPACE]),
    (VPC, "spec.vlanNamespace", Form::NameOrDefault, &[VLAN_NAMESPACE]),
    (VPC_ATTACHMENT, "spec.subnet", Form::Part, &[VPC]),
    (VPC_ATTACHMENT, "spec.connection", Form::Name, &[CONNECTION]),
    (VPC_PEERING, "spec.permit.[].{}", Form::Name, &[VPC]),
    (EXTERNAL, "spec.ipv4Namespace", Form::NameOrDefault, &[IPV4_NAMESPACE]),
    (EXTERNAL_ATTACHMENT, "spec.external", Form::Name, &[EXTERNAL]),
    (EXTERNAL_ATTACHMENT, "spec.connection", Form::Name, &[CONNECTION]),
    (EXTERNAL_PEERING, "spec.permit.vpc.name", Form::Name, &[VPC]),
    (EXTERNAL_PEERING, "spec.permit.external.name", Form::Name, &[EXTERNAL]),
    (GATEWAY, "spec.groups.[].name", Form::NameOrDefault, &[GATEWAY_GROUP]),
    (GATEWAY_PEERING, "spec.gatewayGroup", Form::NameOrDefault, &[GATEWAY_GROUP]),
    (GATEWAY_PEERING, "spec.peering.{}", Form::Peer, &[VPC]),
];
/// More than this in one document are not looked at.
const NAMINGS_MAX: usize = 1_000;

/// What a document of a kind names, and where in the text.
pub fn namings(group: &str, kind: &str, root: &Node) -> Vec<(Naming, usize)> {
    let mut found = Vec::new();
    for (_, field, form, kinds) in ROWS.iter().filter(|it| it.0 == (group, kind)) {
        let steps: Vec<&str> = field.split('.').collect();
        texts(root, &steps, &mut |node| {
            let Some(text) = node.text().filter(|it| !it.is_empty()) else { return };
            if found.len() < NAMINGS_MAX
                && let Some(naming) = naming(field, *form, kinds, text)
            {
                found.push((naming, node.span.start));
            }
        });
    }
    found
}

fn naming(field: &'static str, form: Form, kinds: &'static [Kind], text: &str) -> Option<Naming> {
    let of = |name: &str, part: Option<&str>, kinds| {
        Some(Naming { field, kinds, name: name.to_owned(), part: part.map(str::to_owned) })
    };
    match form {
        Form::NameOrDefault if text == "default" => None,
        Form::Name | Form::NameOrDefault => of(text, None, kinds),
        Form::Part => match text.split_once('/') {
            Some((name, part)) => of(name, Some(part), kinds),
            None => of(text, None, kinds),
        },
        Form::Port => of(text.split('/').next().unwrap_or(text), None, kinds),
        Form::Peer => match text.strip_prefix("ext.") {
            Some(name) => of(name, None, &[EXTERNAL]),
            None => of(text, None, kinds),
        },
    }
}

/// What others may name of a document beside itself: the subnets of a VPC.
pub fn parts(group: &str, kind: &str, root: &Node) -> Vec<String> {
    let mut found = Vec::new();
    if (group, kind) == VPC {
        texts(root, &["spec", "subnets", "{}"], &mut |node| {
            found.extend(node.text().map(str::to_owned));
        });
    }
    found
}

/// The kinds that may name a resource of a kind.
pub fn may_name(group: &str, kind: &str) -> Vec<Kind> {
    let named = |to: &&[Kind]| to.contains(&(group, kind)) || (group, kind) == EXTERNAL;
    let mut kinds: Vec<Kind> = ROWS.iter().filter(|it| named(&it.3)).map(|it| it.0).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn texts<'a>(node: &'a Node, steps: &[&str], found: &mut impl FnMut(&'a Node)) {
    let Some((first, rest)) = steps.split_first() else { return found(node) };
    match (*first, &node.content) {
        ("[]", Content::Sequence(items)) => items.iter().for_each(|it| texts(it, rest, found)),
        ("{}", Content::Mapping(entries)) => {
            entries.iter().filter(|it| !it.0.is_merge()).for_each(|(key, _)| found(key));
        }
        ("*", Content::Mapping(entries)) => {
            entries.iter().for_each(|(_, it)| texts(it, rest, found));
        }
        ("**", Content::Mapping(entries)) => {
            texts(node, rest, found);
            entries.iter().for_each(|(_, it)| texts(it, steps, found));
        }
        ("**", Content::Sequence(items)) => items.iter().for_each(|it| texts(it, steps, found)),
        (key, Content::Mapping(_)) => {
            if let Some(value) = node.get(key) {
                texts(value, rest, found);
            }
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Limits;
    use crate::yaml::parse::parse;

    fn check(kind: Kind, spec: &str, expect: &str) {
        let text = format!("spec: {spec}\n");
        let root = parse(&text, Limits::default()).0.remove(0).root.unwrap();
        let shown = |(it, at): &(Naming, usize)| {
            let part = it.part.as_ref().map(|it| format!("/{it}")).unwrap_or_default();
            format!("{} {}{part}@{}", it.kinds[0].1, it.name, &text[*at..*at + 2])
        };
        let told: Vec<String> = namings(kind.0, kind.1, &root).iter().map(shown).collect();
        assert_eq!(told.join(", "), expect, "{spec}");
    }

    #[test]
    fn what_is_named_is_found_in_its_field() {
        check(VPC_ATTACHMENT, "{connection: c1, subnet: v1/s1}", "VPC v1/s1@v1, Connection c1@c1");
        check(VPC_PEERING, "{permit: [{v1: {}, v2: {}}]}", "VPC v1@v1, VPC v2@v2");
        check(VPC, "{ipv4Namespace: default, vlanNamespace: n1}", "VLANNamespace n1@n1");
        check(GATEWAY_PEERING, "{peering: {v1: {}, ext.e1: {}}}", "VPC v1@v1, External e1@ex");
        check(
            CONNECTION,
            "{eslag: {links: [{server: {port: s1/p1}, switch: {port: l1/E1/1}}]}}",
            "Switch s1@s1, Switch l1@l1",
        );
        check(SERVER, "{connection: c1}", "");
    }

    #[test]
    fn every_row_is_of_kinds_that_there_are() {
        let catalog = crate::catalog::Catalog::hedgehog();
        for (kind, _, _, to) in ROWS {
            for (group, kind) in to.iter().chain([kind]) {
                assert!(catalog.known(group, kind).is_some(), "{kind}");
            }
        }
        assert_eq!(may_name(VPC_ATTACHMENT.0, VPC_ATTACHMENT.1), []);
        assert!(may_name(CONNECTION.0, CONNECTION.1).contains(&VPC_ATTACHMENT));
        assert!(may_name(EXTERNAL.0, EXTERNAL.1).contains(&GATEWAY_PEERING));
    }
}
