//! The setting of the store.

use super::sqlite::DatabaseFile;
use crate::setting::Setting;

pub(crate) const DATABASE_URL: Setting<DatabaseFile> = Setting {
    name: "DATABASE_URL",
    default: "sqlite://totally_not_my_privateKeys.db",
    help: "The store: sqlite://FILE, or a path",
    parse: |text| DatabaseFile::parse(text).map_err(|error| error.to_string()),
};
