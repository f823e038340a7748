// Seals and opens what the queue carries: AES-256-GCM under a key derived (HKDF-SHA256) for one account and epoch.
// The header is authenticated, never secret. Format: docs/formats/envelope.md.
// Thread: a KeyRing is immutable after load; all functions may be called from any thread.
#pragma once
#include "lib/base/ids.hpp"
#include "lib/base/result.hpp"
#include <array>
#include <map>
#include <string>
#include <string_view>

namespace replica {

class KeyRing {
public:
    // The text of `replica_key_file`: lines `name <64 hex>`, `key <id> <64 hex>`, `active <id>`; # begins a comment.
    static Result<KeyRing> parse(std::string_view text);
    AccountKey account_key(std::string_view account_name) const; // HMAC under the name key, which never rotates
    std::string name_hash(std::string_view domain, std::string_view name) const; // 32 bytes; stores, operations
    std::string check_value() const; // what heartbeats show of the ring: equal exactly where the rings are
    uint32_t active() const { return active_; }
    const std::array<uint8_t, 32> *find(uint32_t key_id) const;
    static std::string generate(); // a new file's text, with one key

private:
    std::array<uint8_t, 32> name_key_{};
    std::map<uint32_t, std::array<uint8_t, 32>> keys_;
    uint32_t active_ = 0;
};

struct EnvelopeHeader {
    uint32_t key_id = 0;
    AccountKey account; // for the control log: SHA-256 of the Kafka key, so that a value cannot move to another key
    Number number;
    Session session;
};
struct Opened {
    EnvelopeHeader header;
    std::string plaintext;
};

// Fails only if the ring has no active key. The nonce is random.
Result<std::string> seal(const KeyRing &ring, const EnvelopeHeader &header, std::string_view plaintext);
// denied: not authentic. unsupported: another version, or a key id that the ring lacks. corrupt: not an envelope.
Result<Opened> open(const KeyRing &ring, std::string_view envelope);
// The header alone, not authenticated: to find the account without opening.
Result<EnvelopeHeader> peek(std::string_view envelope);

std::string random_bytes(size_t n);
std::string sha256(std::string_view);

} // namespace replica
