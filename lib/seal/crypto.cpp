#include "lib/seal/crypto.hpp"
#include "lib/seal/envelope.hpp"
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

namespace replica {
namespace crypto {
namespace {

void must(bool ok, const char *what) {
    if (ok) return;
    std::fprintf(stderr, "libcrypto failed in %s\n", what);
    std::abort();
}

const unsigned char *bytes(std::string_view v) { return reinterpret_cast<const unsigned char *>(v.data()); }
unsigned char *bytes(std::string &v) { return reinterpret_cast<unsigned char *>(v.data()); }
int length(std::string_view v) {
    must(v.size() <= INT32_MAX, "a length");
    return static_cast<int>(v.size());
}

struct Free {
    void operator()(EVP_CIPHER_CTX *p) const { EVP_CIPHER_CTX_free(p); }
    void operator()(EVP_KDF_CTX *p) const { EVP_KDF_CTX_free(p); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, Free>;

// Fetched once: a fetch takes longer than to seal a small record.
EVP_KDF *hkdf_algorithm() {
    static EVP_KDF *kdf = EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr);
    must(kdf != nullptr, "EVP_KDF_fetch");
    return kdf;
}
const EVP_CIPHER *gcm_algorithm() {
    static EVP_CIPHER *cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    must(cipher != nullptr, "EVP_CIPHER_fetch");
    return cipher;
}

Cipher gcm_context(bool seals, const Key &key, std::string_view nonce, std::string_view header) {
    must(nonce.size() == nonce_bytes, "a nonce's length");
    Cipher context(EVP_CIPHER_CTX_new());
    must(context != nullptr, "EVP_CIPHER_CTX_new");
    must(EVP_CipherInit_ex2(context.get(), gcm_algorithm(), key.data(), bytes(nonce), seals, nullptr) == 1,
         "EVP_CipherInit_ex2");
    int n = 0;
    must(EVP_CipherUpdate(context.get(), nullptr, &n, bytes(header), length(header)) == 1, "EVP_CipherUpdate");
    return context;
}

} // namespace

std::string hmac(const Key &key, std::string_view message) {
    std::string mac(32, '\0');
    size_t n = 0;
    must(EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.data(), key.size(), bytes(message), message.size(),
                   bytes(mac), mac.size(), &n) != nullptr &&
             n == mac.size(),
         "EVP_Q_mac");
    return mac;
}

Key hkdf(const Key &key, std::string_view info) {
    std::unique_ptr<EVP_KDF_CTX, Free> context(EVP_KDF_CTX_new(hkdf_algorithm()));
    must(context != nullptr, "EVP_KDF_CTX_new");
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, const_cast<char *>("SHA256"), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<uint8_t *>(key.data()), key.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char *>(info.data()), info.size()),
        OSSL_PARAM_construct_end(),
    };
    Key derived;
    must(EVP_KDF_derive(context.get(), derived.data(), derived.size(), parameters) == 1, "EVP_KDF_derive");
    return derived;
}

std::string aes_gcm_seal(const Key &key, std::string_view nonce, std::string_view header, std::string_view plaintext) {
    Cipher context = gcm_context(true, key, nonce, header);
    std::string out(plaintext.size() + tag_bytes, '\0');
    int n = 0, last = 0;
    must(EVP_CipherUpdate(context.get(), bytes(out), &n, bytes(plaintext), length(plaintext)) == 1, "EVP_CipherUpdate");
    must(EVP_CipherFinal_ex(context.get(), bytes(out) + n, &last) == 1, "EVP_CipherFinal_ex");
    must(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, tag_bytes, bytes(out) + plaintext.size()) == 1,
         "EVP_CTRL_AEAD_GET_TAG");
    return out;
}

std::optional<std::string> aes_gcm_open(const Key &key, std::string_view nonce, std::string_view header,
                                        std::string_view sealed) {
    if (sealed.size() < tag_bytes) return std::nullopt;
    std::string_view ciphertext = sealed.substr(0, sealed.size() - tag_bytes);
    std::string tag(sealed.substr(ciphertext.size()));
    Cipher context = gcm_context(false, key, nonce, header);
    std::string out(ciphertext.size(), '\0');
    int n = 0, last = 0;
    must(EVP_CipherUpdate(context.get(), bytes(out), &n, bytes(ciphertext), length(ciphertext)) == 1,
         "EVP_CipherUpdate");
    must(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, tag_bytes, tag.data()) == 1,
         "EVP_CTRL_AEAD_SET_TAG");
    if (EVP_CipherFinal_ex(context.get(), bytes(out) + n, &last) != 1) return std::nullopt;
    return out;
}

void wipe(Key &key) { OPENSSL_cleanse(key.data(), key.size()); }

} // namespace crypto

std::string random_bytes(size_t n) {
    std::string out(n, '\0');
    crypto::must(RAND_bytes(crypto::bytes(out), crypto::length(out)) == 1, "RAND_bytes");
    return out;
}

std::string sha256(std::string_view message) {
    std::string digest(32, '\0');
    size_t n = 0;
    crypto::must(EVP_Q_digest(nullptr, "SHA256", nullptr, message.data(), message.size(), crypto::bytes(digest), &n) ==
                     1,
                 "EVP_Q_digest");
    return digest;
}

} // namespace replica
