#include "lib/seal/envelope.hpp"
#include "lib/base/bytes.hpp"
#include "lib/seal/crypto.hpp"
#include "lib/seal/envelope_layout.hpp"

namespace replica {
namespace {

constexpr std::string_view magic = "AREV";
constexpr uint8_t version = 1;
constexpr std::string_view derivation = "active-replica envelope 1";
// magic, version, key id, account, epoch, sequence, session, nonce: all of it authenticated
constexpr size_t header_bytes = 4 + 1 + 4 + 32 + 8 + 8 + 8 + crypto::nonce_bytes;

std::string encode_header(const EnvelopeHeader &header, std::string_view nonce) {
    std::string out;
    Writer to(out);
    to.raw(magic);
    to.u8(version);
    to.u32(header.key_id);
    to.id(header.account);
    to.number(header.number);
    to.id(header.session);
    to.raw(nonce);
    return out;
}

crypto::Key data_key(const crypto::Key &key, const EnvelopeHeader &header) {
    std::string info(derivation);
    Writer to(info);
    to.id(header.account);
    to.u64(header.number.epoch);
    return crypto::hkdf(key, info);
}

} // namespace

Result<std::string> seal_with_nonce(const KeyRing &ring, const EnvelopeHeader &header, std::string_view nonce,
                                    std::string_view plaintext) {
    EnvelopeHeader sealed = header;
    sealed.key_id = ring.active();
    const crypto::Key *key = ring.find(sealed.key_id);
    if (key == nullptr) return Error{Code::invalid, "the key ring has no active key"};
    std::string out = encode_header(sealed, nonce);
    crypto::Key derived = data_key(*key, sealed);
    out += crypto::aes_gcm_seal(derived, nonce, out, plaintext);
    crypto::wipe(derived);
    return out;
}

Result<std::string> seal(const KeyRing &ring, const EnvelopeHeader &header, std::string_view plaintext) {
    return seal_with_nonce(ring, header, random_bytes(crypto::nonce_bytes), plaintext);
}

Result<EnvelopeHeader> peek(std::string_view envelope) {
    Reader in(envelope);
    if (envelope.size() < header_bytes + crypto::tag_bytes || in.raw(magic.size()) != magic)
        return Error{Code::corrupt, "not an envelope"};
    if (uint8_t given = in.u8(); given != version)
        return Error{Code::unsupported, "an envelope of version " + std::to_string(given)};
    EnvelopeHeader header;
    header.key_id = in.u32();
    header.account = in.id<AccountKey>();
    header.number = in.number();
    header.session = in.id<Session>();
    return header;
}

Result<Opened> open(const KeyRing &ring, std::string_view envelope) {
    auto header = peek(envelope);
    if (!header) return header.error();
    const crypto::Key *key = ring.find(header->key_id);
    if (key == nullptr) return Error{Code::unsupported, "the key ring has no key " + std::to_string(header->key_id)};
    std::string_view authenticated = envelope.substr(0, header_bytes);
    crypto::Key derived = data_key(*key, *header);
    auto plaintext = crypto::aes_gcm_open(derived, authenticated.substr(header_bytes - crypto::nonce_bytes),
                                          authenticated, envelope.substr(header_bytes));
    crypto::wipe(derived);
    if (!plaintext) return Error{Code::denied, "an envelope that is not authentic"};
    return Opened{*header, std::move(*plaintext)};
}

} // namespace replica
