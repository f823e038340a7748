// The words of a `doveadm replica` command, checked and put into a request line of the control socket
// (docs/formats/control-socket.md). Names of accounts and stores are the agent's to judge. Pure, but for reading an
// input file. Fails: invalid, with a sentence that says what to write.
#pragma once
#include "lib/base/result.hpp"
#include <string>
#include <string_view>
#include <vector>

namespace replica {

using Words = std::vector<std::string>;

struct Verb {
    const char *name; // behind "replica "
    const char *usage;
    Result<Words> (*request)(const Words &words); // the fields of the request line
};
const std::vector<Verb> &verbs();

// One account a line; blank lines and lines that begin with # are passed over.
Result<Words> accounts_of_file(const std::string &path);
Result<Words> accounts_of_text(std::string_view text, const std::string &path);
Result<Words> accounts_of_list(std::string_view comma_separated);

} // namespace replica
