// What the doveadm module needs of Dovecot. Include it like dovecot.hpp, after every C++ and system header.
#pragma once
#include "plugin/compat/dovecot.hpp"
#include <sysexits.h>
extern "C" {
#include "doveadm.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"
#include "istream.h"
#include "net.h"
#include "strescape.h"
#include "write-full.h"
}
