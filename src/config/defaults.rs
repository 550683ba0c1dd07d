//! What every setting is when nobody says otherwise; `packaging/config.yaml` says the same, and a
//! test keeps it so.

use super::{
    ApiSettings, FetchSettings, HookSettings, IntakeSettings, LogFormat, LogSettings, PushSettings,
    RepositorySettings, Settings, YamlSettings,
};
use crate::catalog::Breadth;
use crate::model::conflict::ConflictStrategy;
use crate::model::fabric::{Author, Layout};
use crate::model::rules::{BesideRaw, Mode, OnDelete, RemovalLimits};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::{OnInvalid, OnUnsupported};
use crate::pipeline::validation::SchemaStrategy;
use std::path::PathBuf;
use std::time::Duration;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            repositories: Vec::new(),
            archive: ArchiveStrategy::Ref,
            layout: Layout::Flat,
            on_invalid: OnInvalid::Keep,
            on_unsupported: OnUnsupported::Unmanaged,
            partial: false,
            conflict: ConflictStrategy::Merge,
            mode: Mode::Full,
            on_delete: OnDelete::Orphan,
            beside_raw: BesideRaw::Take,
            removals: RemovalLimits::default(),
            catalog: Breadth::Hedgehog,
            kinds_dir: None,
            definitions: Vec::new(),
            schema: SchemaStrategy::Warn,
            intake: IntakeSettings::default(),
            yaml: YamlSettings::default(),
            push: PushSettings::default(),
            fetch: FetchSettings::default(),
            api: ApiSettings::default(),
            webhooks: HookSettings::default(),
            state_dir: None,
            log: LogSettings::default(),
        }
    }
}

impl Default for RepositorySettings {
    fn default() -> RepositorySettings {
        RepositorySettings {
            path: PathBuf::new(),
            remote: "origin".to_owned(),
            branch: None,
            push: true,
            review: None,
            username: None,
            token_file: None,
            ca_file: None,
            author: Author {
                name: "git-intake".to_owned(),
                email: "git-intake@localhost".to_owned(),
            },
            fabrics: Vec::new(),
            file: None,
        }
    }
}

impl Default for IntakeSettings {
    fn default() -> IntakeSettings {
        IntakeSettings {
            quiet: Duration::from_millis(200),
            rescan: Duration::from_secs(30),
            bytes_max: 10 << 20,
            ignore: Vec::new(),
            poll: Duration::from_secs(2),
            hand_edits_quiet: Duration::from_secs(60),
            one_file_system: false,
            files_per_turn_max: 10_000,
            bytes_per_turn_max: 32 << 20,
            entries_max: 1_000_000,
        }
    }
}

impl Default for YamlSettings {
    fn default() -> YamlSettings {
        let limits = crate::yaml::Limits::default();
        YamlSettings {
            documents_max: limits.documents_max,
            depth_max: limits.depth_max,
            nodes_max: limits.nodes_max,
        }
    }
}

impl Default for PushSettings {
    fn default() -> PushSettings {
        PushSettings {
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            wall_timeout: Duration::from_secs(1800),
        }
    }
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings { every: Some(Duration::from_secs(60)) }
    }
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings { format: LogFormat::Auto, level: "info".to_owned() }
    }
}
