//! The setting of the store.

use super::file::DatabaseFile;
use jwksd_core::setting::Setting;

/// Where the database is.
pub const DATABASE_URL: Setting<DatabaseFile> = Setting {
    name: "DATABASE_URL",
    default: "sqlite://totally_not_my_privateKeys.db",
    help: "The store: sqlite://FILE, or a path",
    parse: |text| DatabaseFile::parse(text).map_err(|error| error.to_string()),
};
