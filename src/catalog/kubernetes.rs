//! The kinds that every Kubernetes has, for catalogs that take any kind (Kubernetes 1.34).

use super::{Entry, Owner, Scope, Version};

/// Kinds of one group: its versions, the preferred first, and each kind with its plural.
struct Group {
    name: &'static str,
    versions: &'static [&'static str],
    namespaced: &'static [(&'static str, &'static str)],
    cluster: &'static [(&'static str, &'static str)],
}

/// Groups that are gone from Kubernetes: what is still written for them has moved elsewhere.
const GONE: [&str; 1] = ["extensions"];

const GROUPS: &[Group] = &[
    Group {
        name: "",
        versions: &["v1"],
        namespaced: &[
            ("ConfigMap", "configmaps"),
            ("Endpoints", "endpoints"),
            ("Event", "events"),
            ("LimitRange", "limitranges"),
            ("PersistentVolumeClaim", "persistentvolumeclaims"),
            ("Pod", "pods"),
            ("PodTemplate", "podtemplates"),
            ("ReplicationController", "replicationcontrollers"),
            ("ResourceQuota", "resourcequotas"),
            ("Secret", "secrets"),
            ("Service", "services"),
            ("ServiceAccount", "serviceaccounts"),
        ],
        cluster: &[
            ("Namespace", "namespaces"),
            ("Node", "nodes"),
            ("PersistentVolume", "persistentvolumes"),
        ],
    },
    Group {
        name: "apps",
        versions: &["v1"],
        namespaced: &[
            ("ControllerRevision", "controllerrevisions"),
            ("DaemonSet", "daemonsets"),
            ("Deployment", "deployments"),
            ("ReplicaSet", "replicasets"),
            ("StatefulSet", "statefulsets"),
        ],
        cluster: &[],
    },
    Group {
        name: "batch",
        versions: &["v1"],
        namespaced: &[("CronJob", "cronjobs"), ("Job", "jobs")],
        cluster: &[],
    },
    Group {
        name: "autoscaling",
        versions: &["v2", "v1"],
        namespaced: &[("HorizontalPodAutoscaler", "horizontalpodautoscalers")],
        cluster: &[],
    },
    Group {
        name: "networking.k8s.io",
        versions: &["v1"],
        namespaced: &[("Ingress", "ingresses"), ("NetworkPolicy", "networkpolicies")],
        cluster: &[
            ("IPAddress", "ipaddresses"),
            ("IngressClass", "ingressclasses"),
            ("ServiceCIDR", "servicecidrs"),
        ],
    },
    Group {
        name: "policy",
        versions: &["v1"],
        namespaced: &[("PodDisruptionBudget", "poddisruptionbudgets")],
        cluster: &[],
    },
    Group {
        name: "rbac.authorization.k8s.io",
        versions: &["v1"],
        namespaced: &[("Role", "roles"), ("RoleBinding", "rolebindings")],
        cluster: &[("ClusterRole", "clusterroles"), ("ClusterRoleBinding", "clusterrolebindings")],
    },
    Group {
        name: "storage.k8s.io",
        versions: &["v1"],
        namespaced: &[("CSIStorageCapacity", "csistoragecapacities")],
        cluster: &[
            ("CSIDriver", "csidrivers"),
            ("CSINode", "csinodes"),
            ("StorageClass", "storageclasses"),
            ("VolumeAttachment", "volumeattachments"),
            ("VolumeAttributesClass", "volumeattributesclasses"),
        ],
    },
    Group {
        name: "coordination.k8s.io",
        versions: &["v1"],
        namespaced: &[("Lease", "leases")],
        cluster: &[],
    },
    Group {
        name: "discovery.k8s.io",
        versions: &["v1"],
        namespaced: &[("EndpointSlice", "endpointslices")],
        cluster: &[],
    },
    Group {
        name: "events.k8s.io",
        versions: &["v1"],
        namespaced: &[("Event", "events")],
        cluster: &[],
    },
    Group {
        name: "scheduling.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[("PriorityClass", "priorityclasses")],
    },
    Group {
        name: "node.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[("RuntimeClass", "runtimeclasses")],
    },
    Group {
        name: "certificates.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[("CertificateSigningRequest", "certificatesigningrequests")],
    },
    Group {
        name: "apiextensions.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[("CustomResourceDefinition", "customresourcedefinitions")],
    },
    Group {
        name: "apiregistration.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[("APIService", "apiservices")],
    },
    Group {
        name: "admissionregistration.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[
            ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
            ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        ],
    },
    Group {
        name: "flowcontrol.apiserver.k8s.io",
        versions: &["v1"],
        namespaced: &[],
        cluster: &[
            ("FlowSchema", "flowschemas"),
            ("PriorityLevelConfiguration", "prioritylevelconfigurations"),
        ],
    },
    Group {
        name: "resource.k8s.io",
        versions: &["v1", "v1beta2", "v1beta1"],
        namespaced: &[
            ("ResourceClaim", "resourceclaims"),
            ("ResourceClaimTemplate", "resourceclaimtemplates"),
        ],
        cluster: &[("DeviceClass", "deviceclasses"), ("ResourceSlice", "resourceslices")],
    },
];

/// All of them. Only the kinds of the core group have their plural to themselves.
pub(super) fn entries() -> impl Iterator<Item = Entry> {
    GROUPS.iter().flat_map(|group| {
        let namespaced = group.namespaced.iter().map(|it| (it, Scope::Namespaced));
        let cluster = group.cluster.iter().map(|it| (it, Scope::Cluster));
        namespaced.chain(cluster).map(|((kind, plural), scope)| Entry {
            group: group.name.to_owned(),
            kind: (*kind).to_owned(),
            plural: (*plural).to_owned(),
            versions: group
                .versions
                .iter()
                .map(|name| Version { name: (*name).to_owned(), served: true, schema: None })
                .collect(),
            owner: Owner::User,
            scope,
            qualified: false,
        })
    })
}

/// Says whether a group is Kubernetes' own, so that an unknown kind of it is a mistake.
pub(super) fn is_group(group: &str) -> bool {
    GROUPS.iter().any(|it| it.name == group) || GONE.contains(&group)
}

/// The plural of a kind that nobody has described, as English has it.
pub(super) fn plural(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    let vowel = |c: Option<char>| c.is_some_and(|c| "aeiou".contains(c));
    let mut letters = lower.chars().rev();
    match (letters.next(), letters.next()) {
        (Some('y'), before) if !vowel(before) => format!("{}ies", &lower[..lower.len() - 1]),
        (Some('s' | 'x' | 'z'), _) | (Some('h'), Some('c' | 's')) => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_agrees_with_what_is_known() {
        // These have plurals of their own making.
        let odd = ["Endpoints"];
        for it in entries().filter(|it| !odd.contains(&it.kind.as_str())) {
            assert_eq!(plural(&it.kind), it.plural);
        }
        assert_eq!(plural("Gateway"), "gateways");
        assert_eq!(plural("Mesh"), "meshes");
    }
}
