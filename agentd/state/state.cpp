#include "agentd/state/state.hpp"
#include <cerrno>
#include <lmdb.h>

namespace replica {

namespace {
constexpr size_t map_bytes = size_t{4} << 30;

Error failure(int rc, const std::string &what) {
    Code code = rc == MDB_NOTFOUND                         ? Code::gone
                : rc == MDB_MAP_FULL || rc == ENOSPC       ? Code::full
                : rc == MDB_CORRUPTED || rc == MDB_INVALID ? Code::corrupt
                                                           : Code::retry;
    return {code, what + ": " + mdb_strerror(rc)};
}
MDB_val val(std::string_view v) { return {v.size(), const_cast<char *>(v.data())}; }
std::string_view view(const MDB_val &v) { return {static_cast<const char *>(v.mv_data), v.mv_size}; }
} // namespace

struct State::Impl {
    MDB_env *env = nullptr;
    MDB_dbi facts = 0;
    std::string directory;
    ~Impl() {
        if (env) mdb_env_close(env);
    }
    // One transaction; ended whatever `body` says.
    template <class Body> int in_transaction(unsigned flags, Body body) const {
        MDB_txn *txn = nullptr;
        if (int rc = mdb_txn_begin(env, nullptr, flags, &txn)) return rc;
        if (int rc = body(txn)) {
            mdb_txn_abort(txn);
            return rc;
        }
        return mdb_txn_commit(txn);
    }
};

State::State(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
State::~State() = default;

Result<std::unique_ptr<State>> State::open(const std::string &directory) {
    auto impl = std::make_unique<Impl>();
    impl->directory = directory;
    int rc = mdb_env_create(&impl->env);
    if (!rc) rc = mdb_env_set_mapsize(impl->env, map_bytes);
    if (!rc) rc = mdb_env_open(impl->env, directory.c_str(), 0, 0600);
    if (!rc) rc = impl->in_transaction(0, [&](MDB_txn *txn) { return mdb_dbi_open(txn, nullptr, 0, &impl->facts); });
    if (rc) return failure(rc, "the agent's state in " + directory);
    return std::unique_ptr<State>(new State(std::move(impl)));
}

Result<void> State::write(const std::vector<Write> &writes) {
    int rc = impl_->in_transaction(0, [&](MDB_txn *txn) {
        for (auto &w : writes) {
            MDB_val key = val(w.key), value = val(w.value);
            int one = w.value.empty() ? mdb_del(txn, impl_->facts, &key, nullptr)
                                      : mdb_put(txn, impl_->facts, &key, &value, 0);
            if (one && one != MDB_NOTFOUND) return one;
        }
        return 0;
    });
    if (rc) return failure(rc, "writing the agent's state in " + impl_->directory);
    return {};
}

Result<std::string> State::read(std::string_view name) const {
    std::string found;
    int rc = impl_->in_transaction(MDB_RDONLY, [&](MDB_txn *txn) {
        MDB_val key = val(name), value;
        int one = mdb_get(txn, impl_->facts, &key, &value);
        if (!one) found = view(value);
        return one;
    });
    if (rc) return failure(rc, "reading the agent's state in " + impl_->directory);
    return found;
}

Result<void> State::each(std::string_view prefix,
                         const std::function<void(std::string_view, std::string_view)> &visit) const {
    int rc = impl_->in_transaction(MDB_RDONLY, [&](MDB_txn *txn) {
        MDB_cursor *cursor = nullptr;
        if (int one = mdb_cursor_open(txn, impl_->facts, &cursor)) return one;
        MDB_val key = val(prefix), value;
        int one = mdb_cursor_get(cursor, &key, &value, prefix.empty() ? MDB_FIRST : MDB_SET_RANGE);
        for (; !one && view(key).starts_with(prefix); one = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
            visit(view(key), view(value));
        mdb_cursor_close(cursor);
        return one == MDB_NOTFOUND ? 0 : one;
    });
    if (rc) return failure(rc, "reading the agent's state in " + impl_->directory);
    return {};
}

} // namespace replica
