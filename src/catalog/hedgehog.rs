//! Hedgehog's kinds, as its CRDs have them (fabric 0.126, fabricator of August 2026).

use super::{Entry, Owner, Scope, Version};

const WIRING: &str = "wiring.githedgehog.com";
const VPC: &str = "vpc.githedgehog.com";
const GATEWAY: &str = "gateway.githedgehog.com";
const FABRICATOR: &str = "fabricator.githedgehog.com";

/// The definitions of those kinds that people write.
pub(super) const DEFINITIONS: &str = include_str!("hedgehog.yaml");

/// One kind of ours.
pub(super) struct Row {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    served: &'static [&'static str],
    owner: Owner,
    namespace: &'static str,
}

impl Row {
    pub(super) fn entry(&self) -> Entry {
        let version =
            |name: &&str| Version { name: (*name).to_owned(), served: true, schema: None };
        Entry {
            group: self.group.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
            versions: self.served.iter().map(version).collect(),
            owner: self.owner,
            scope: match self.namespace {
                ANYWHERE => Scope::Namespaced,
                namespace => Scope::Only(namespace),
            },
            qualified: false,
        }
    }
}

const fn user(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    served: &'static [&'static str],
    namespace: &'static str,
) -> Row {
    Row { group, kind, plural, served, owner: Owner::User, namespace }
}

const fn controlled(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    served: &'static [&'static str],
    why: &'static str,
) -> Row {
    Row { group, kind, plural, served, owner: Owner::Controller(why), namespace: "default" }
}

const BETA: &[&str] = &["v1beta1"];
const ALPHA: &[&str] = &["v1alpha1"];
/// Instead of a namespace, where more than one will do.
const ANYWHERE: &str = "";

pub(super) const ROWS: &[Row] = &[
    user(WIRING, "Switch", "switches", BETA, "default"),
    user(WIRING, "Server", "servers", BETA, "default"),
    user(WIRING, "Connection", "connections", BETA, "default"),
    user(WIRING, "SwitchGroup", "switchgroups", BETA, "default"),
    user(WIRING, "VLANNamespace", "vlannamespaces", BETA, "default"),
    user(WIRING, "ServerProfile", "serverprofiles", BETA, "default"),
    user(WIRING, "Fabric", "fabrics", BETA, "default"),
    controlled(
        WIRING,
        "SwitchProfile",
        "switchprofiles",
        BETA,
        "the fabric ships its switch profiles and refuses changes to them; name one in a Switch's spec.profile",
    ),
    user(VPC, "VPC", "vpcs", BETA, "default"),
    user(VPC, "VPCAttachment", "vpcattachments", BETA, "default"),
    user(VPC, "VPCPeering", "vpcpeerings", BETA, "default"),
    user(VPC, "External", "externals", BETA, "default"),
    user(VPC, "ExternalAttachment", "externalattachments", BETA, "default"),
    user(VPC, "ExternalPeering", "externalpeerings", BETA, "default"),
    user(VPC, "IPv4Namespace", "ipv4namespaces", BETA, "default"),
    // The installer seeds it, and the fabric's own documentation keeps it in fab.
    user(GATEWAY, "Gateway", "gateways", ALPHA, ANYWHERE),
    user(GATEWAY, "GatewayGroup", "gatewaygroups", ALPHA, "default"),
    user(GATEWAY, "GatewayPeering", "gatewaypeerings", ALPHA, "default"),
    controlled(
        GATEWAY,
        "VPCInfo",
        "vpcinfos",
        ALPHA,
        "the fabric derives it from a VPC; write the VPC instead",
    ),
    controlled(
        GATEWAY,
        "Peering",
        "peerings",
        &[],
        "it was renamed when the gateway joined the fabric; write a GatewayPeering instead",
    ),
    controlled(
        "gwint.githedgehog.com",
        "GatewayAgent",
        "gatewayagents",
        ALPHA,
        "the fabric derives it from Gateways and their peerings; write those instead",
    ),
    controlled(
        "agent.githedgehog.com",
        "Agent",
        "agents",
        BETA,
        "the fabric derives it from Switches and Connections; write those instead",
    ),
    controlled(
        "agent.githedgehog.com",
        "Catalog",
        "catalogs",
        BETA,
        "it is the fabric's own book-keeping; there is nothing to write instead",
    ),
    controlled(
        "dhcp.githedgehog.com",
        "DHCPSubnet",
        "dhcpsubnets",
        BETA,
        "the fabric derives it from a VPC; set spec.subnets.<name>.dhcp of the VPC instead",
    ),
    user(FABRICATOR, "Fabricator", "fabricators", BETA, "fab"),
    user(FABRICATOR, "ControlNode", "controlnodes", BETA, "fab"),
    user(FABRICATOR, "FabNode", "fabnodes", BETA, "fab"),
];
