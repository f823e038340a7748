#include "doveadm-cmds/request.hpp"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace replica {

namespace {
constexpr size_t file_bytes_max = 64u << 20;

Error invalid(std::string message) { return {Code::invalid, std::move(message)}; }

std::string_view trimmed(std::string_view s) {
    auto first = s.find_first_not_of(" \t\r");
    if (first == s.npos) return {};
    return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

Result<Words> without_duplicates(Words accounts, const std::string &where) {
    if (accounts.empty()) return invalid(where + " names no account");
    std::set<std::string_view> seen;
    for (auto &account : accounts)
        if (!seen.insert(account).second) return invalid(where + " names " + account + " twice");
    return accounts;
}

// `name value` pairs behind the positional words: each known name once.
using Options = std::map<std::string, std::string>;
Result<Options> options(const Words &words, size_t from, const Words &known) {
    Options found;
    for (size_t i = from; i < words.size(); i += 2) {
        auto &name = words[i];
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            std::string list;
            for (auto &k : known)
                list += (list.empty() ? "`" : ", `") + k + "`";
            return invalid("`" + name + "` is not expected here: write " + list);
        }
        if (i + 1 == words.size()) return invalid("`" + name + "` needs a value behind it");
        if (!found.emplace(name, words[i + 1]).second) return invalid("`" + name + "` is given twice");
    }
    return found;
}

Result<Words> named_accounts(const Options &given) {
    auto list = given.find("accounts"), file = given.find("input_file");
    if ((list == given.end()) == (file == given.end()))
        return invalid("write either `accounts a@example.com,b@example.com` or `input_file FILE`");
    return list != given.end() ? accounts_of_list(list->second) : accounts_of_file(file->second);
}

Result<Words> set(const Words &words) {
    if (words.size() < 2)
        return invalid("write: setAccountDestination <mailstore> <priority> accounts <a,b,...> | input_file <file>");
    auto given = options(words, 2, {"accounts", "input_file"});
    if (!given) return given.error();
    auto accounts = named_accounts(*given);
    if (!accounts) return accounts.error();
    if (words[1].empty() || words[1].find_first_not_of("0123456789") != std::string::npos || words[1].size() > 9)
        return invalid("priority `" + words[1] + "` is not a whole number: write 0 or more, lower is first");
    Words request = {"set", words[0], words[1]};
    request.insert(request.end(), accounts->begin(), accounts->end());
    return request;
}

Result<Words> remove(const Words &words) {
    if (words.empty())
        return invalid("write: removeAccountDestination <mailstore> accounts <a,b,...> | input_file <file>");
    auto given = options(words, 1, {"accounts", "input_file"});
    if (!given) return given.error();
    auto accounts = named_accounts(*given);
    if (!accounts) return accounts.error();
    Words request = {"remove", words[0]};
    request.insert(request.end(), accounts->begin(), accounts->end());
    return request;
}

Result<Words> promote(const Words &words) {
    auto given = options(words, 0, {"accounts", "input_file", "source_mail_host", "target", "force"});
    if (!given) return given.error();
    auto value = [&](const char *name) {
        auto found = given->find(name);
        return found == given->end() ? std::string() : found->second;
    };
    std::string force = value("force");
    if (!force.empty() && force != "yes" && force != "no") return invalid("`force` is `yes` or `no`");
    Words request = {"promote", value("target"), value("source_mail_host"), force == "yes" ? "1" : "0"};
    bool by_store = given->contains("source_mail_host");
    if (by_store && value("source_mail_host").empty()) return invalid("`source_mail_host` names no store");
    if (by_store && (given->contains("accounts") || given->contains("input_file")))
        return invalid("write either `source_mail_host` or accounts, not both");
    if (by_store) return request;
    if (!given->contains("accounts") && !given->contains("input_file"))
        return invalid("write `accounts a@example.com,b@example.com`, `input_file FILE` or `source_mail_host HOST`");
    auto accounts = named_accounts(*given);
    if (!accounts) return accounts.error();
    request.insert(request.end(), accounts->begin(), accounts->end());
    return request;
}

Result<Words> status(const Words &words) {
    auto given = options(words, 0, {"mailHost", "replicaServer", "replicaStatus"});
    if (!given) return given.error();
    auto &availability = (*given)["replicaStatus"];
    if (!availability.empty() && availability != "available" && availability != "unavailable")
        return invalid("`replicaStatus` is `available` or `unavailable`, not `" + availability + "`");
    return Words{"status", (*given)["mailHost"], (*given)["replicaServer"], availability};
}

template <const char *const &word> Result<Words> alone(const Words &words) {
    if (!words.empty()) return invalid(std::string(word) + " takes no argument, `" + words[0] + "` is too much");
    return Words{word};
}
constexpr const char *word_operations = "operations";
constexpr const char *word_stores = "stores";
} // namespace

const std::vector<Verb> &verbs() {
    static const std::vector<Verb> all = {
        {"setAccountDestination", "<mailstore> <priority> accounts <account>[,<account>...] | input_file <file>", set},
        {"getAccountStatus", "[mailHost <mailstore>] [replicaServer <mailstore>] [replicaStatus available|unavailable]",
         status},
        {"promoteAccounts",
         "accounts <account>[,<account>...] | input_file <file> | source_mail_host <mailstore> [target <mailstore>] "
         "[force yes]",
         promote},
        {"removeAccountDestination", "<mailstore> accounts <account>[,<account>...] | input_file <file>", remove},
        {word_operations, "", alone<word_operations>},
        {word_stores, "", alone<word_stores>},
    };
    return all;
}

Result<Words> accounts_of_list(std::string_view text) {
    Words accounts;
    for (;;) {
        auto end = text.find(',');
        accounts.emplace_back(trimmed(text.substr(0, end)));
        if (accounts.back().empty())
            return invalid("`accounts` has an empty name: write them with a single comma between");
        if (end == text.npos) break;
        text.remove_prefix(end + 1);
    }
    return without_duplicates(std::move(accounts), "the list");
}

Result<Words> accounts_of_text(std::string_view text, const std::string &path) {
    if (text.find('\0') != text.npos) return invalid(path + " is a binary file: write one account a line");
    Words accounts;
    while (!text.empty()) {
        auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text = end == text.npos ? std::string_view{} : text.substr(end + 1);
        if (!line.empty() && line[0] != '#') accounts.emplace_back(line);
    }
    return without_duplicates(std::move(accounts), path);
}

Result<Words> accounts_of_file(const std::string &path) {
    auto failed = [&] { return invalid("input_file " + path + ": " + std::strerror(errno)); };
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return failed();
    struct stat st {};
    std::string text;
    ssize_t n = 0;
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (regular) {
        char buffer[65536];
        while ((n = read(fd, buffer, sizeof(buffer))) > 0 && text.size() <= file_bytes_max)
            text.append(buffer, static_cast<size_t>(n));
    }
    close(fd);
    if (!regular) return invalid("input_file " + path + " is not a regular file");
    if (n < 0) return failed();
    if (text.size() > file_bytes_max)
        return invalid("input_file " + path + " is larger than 64 MiB: give the accounts in parts");
    return accounts_of_text(text, path);
}

} // namespace replica
