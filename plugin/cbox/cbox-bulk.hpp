// The digest of a snapshot's content: SHA-256 over the encoded mails, in UID order. Both ends compute it alike.
#pragma once
#include "lib/wire/change.hpp"
#include "plugin/compat/dovecot.hpp"

namespace replica {

class BulkDigest {
public:
    BulkDigest() { sha256_init(&context_); }
    void add(const Append &mail) {
        const std::string bytes = encode(mail);
        sha256_loop(&context_, bytes.data(), bytes.size());
        ++mails_;
    }
    Bulk::Sum sum() const { // of what was added so far
        Bulk::Sum sum;
        sum.mails = mails_;
        struct sha256_ctx copy = context_;
        sha256_result(&copy, sum.digest.data());
        return sum;
    }

private:
    struct sha256_ctx context_;
    uint64_t mails_ = 0;
};

} // namespace replica
