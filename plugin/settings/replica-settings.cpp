// Dovecot 2.4 learns our settings' names from this module, in the config process: without it they would be unknown
// there.
#include "plugin/compat/settings.hpp"
#include "plugin/compat/fs-driver.hpp"

extern "C" {

const char *replica_settings_version = DOVECOT_ABI_VERSION;
const struct setting_parser_info *replica_settings_set_infos[] = {&replica::settings_info(),
                                                                  &replica::compat::fs_s3_settings_info(), nullptr};

} // extern "C"
