#include "lib/base/bytes.hpp"
#include "lib/seal/crypto.hpp"
#include "lib/seal/envelope.hpp"
#include <charconv>
#include <optional>
#include <vector>

namespace replica {
namespace {

std::vector<std::string_view> words_of(std::string_view line) {
    constexpr std::string_view blanks = " \t\r";
    std::vector<std::string_view> words;
    line = line.substr(0, line.find('#'));
    for (size_t begin; (begin = line.find_first_not_of(blanks)) != line.npos;) {
        line.remove_prefix(begin);
        words.push_back(line.substr(0, line.find_first_of(blanks)));
        line.remove_prefix(words.back().size());
    }
    return words;
}

std::optional<crypto::Key> parse_key(std::string_view hex) {
    crypto::Key key;
    if (hex.size() != key.size() * 2) return std::nullopt;
    for (size_t i = 0; i < key.size(); i++) {
        const char *digits = hex.data() + 2 * i;
        auto [end, error] = std::from_chars(digits, digits + 2, key[i], 16);
        if (error != std::errc() || end != digits + 2) return std::nullopt;
    }
    return key;
}

std::optional<uint32_t> parse_id(std::string_view text) {
    uint32_t id = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id == 0) return std::nullopt;
    return id;
}

// Never shows what the line says: it may be a key.
Error at_line(size_t line, const std::string &what) {
    return Error{Code::invalid, "line " + std::to_string(line) + ": " + what};
}

constexpr char key_form[] = "64 hexadecimal digits", id_form[] = "a number from 1 to 4294967295";

} // namespace

Result<KeyRing> KeyRing::parse(std::string_view text) {
    KeyRing ring;
    bool named = false;
    size_t active_line = 0;
    for (size_t line = 1; !text.empty(); line++) {
        size_t end = std::min(text.find('\n'), text.size());
        auto words = words_of(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (words.empty()) continue;
        if (words[0] == "name" && words.size() == 2) {
            auto key = parse_key(words[1]);
            if (!key) return at_line(line, std::string("`name` wants ") + key_form);
            if (std::exchange(named, true)) return at_line(line, "a second `name`; one is all there can be");
            ring.name_key_ = *key;
        } else if (words[0] == "key" && words.size() == 3) {
            auto id = parse_id(words[1]);
            auto key = parse_key(words[2]);
            if (!id) return at_line(line, std::string("the id of a `key` is ") + id_form);
            if (!key) return at_line(line, "key " + std::to_string(*id) + " wants " + key_form);
            if (!ring.keys_.emplace(*id, *key).second)
                return at_line(line, "key " + std::to_string(*id) + " stands here a second time");
        } else if (words[0] == "active" && words.size() == 2) {
            auto id = parse_id(words[1]);
            if (!id) return at_line(line, std::string("`active` wants ") + id_form);
            if (std::exchange(active_line, line) != 0)
                return at_line(line, "a second `active`; one is all there can be");
            ring.active_ = *id;
        } else {
            return at_line(line,
                           "a line is `name <key>`, `key <id> <key>`, `active <id>`, empty, or a comment after #");
        }
    }
    if (!named) return Error{Code::invalid, "no line `name <key>`"};
    if (active_line == 0) return Error{Code::invalid, "no line `active <id>`"};
    if (ring.find(ring.active_) == nullptr)
        return at_line(active_line, "there is no key " + std::to_string(ring.active_) + " that could be active");
    return ring;
}

AccountKey KeyRing::account_key(std::string_view account_name) const {
    return AccountKey::from(name_hash("account", account_name).data());
}

std::string KeyRing::name_hash(std::string_view domain, std::string_view name) const {
    std::string message;
    Writer to(message);
    to.blob(domain);
    to.blob(name);
    return crypto::hmac(name_key_, message);
}

// Which key is active is left out: a reader needs them all, and a store that has yet to switch can read every other.
std::string KeyRing::check_value() const {
    std::string keys;
    Writer to(keys);
    for (const auto &[id, key] : keys_) {
        to.u32(id);
        to.raw({reinterpret_cast<const char *>(key.data()), key.size()});
    }
    return to_hex(name_hash("check", sha256(keys))).substr(0, 32);
}

const std::array<uint8_t, 32> *KeyRing::find(uint32_t key_id) const {
    auto found = keys_.find(key_id);
    return found == keys_.end() ? nullptr : &found->second;
}

std::string KeyRing::generate() {
    return "# Keys of the replica. The same file on every store, of mode 0600.\n"
           "# To rotate: add a key on every store, then make it active, then drop the old one when no log holds it.\n"
           "name " +
           to_hex(random_bytes(32)) + "\nkey 1 " + to_hex(random_bytes(32)) + "\nactive 1\n";
}

} // namespace replica
