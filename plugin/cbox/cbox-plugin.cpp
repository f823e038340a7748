// The module that Dovecot loads: it makes the driver known and does nothing else.
#include "plugin/cbox/cbox-private.hpp"

extern "C" {

extern const char *const cbox_plugin_version;
const char *const cbox_plugin_version = DOVECOT_ABI_VERSION;

void cbox_plugin_init(struct module *);
void cbox_plugin_deinit(void);

void cbox_plugin_init(struct module *) { mail_storage_class_register(&replica::cbox_storage_class); }

void cbox_plugin_deinit(void) { mail_storage_class_unregister(&replica::cbox_storage_class); }
}
