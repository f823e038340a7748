// Result<T>: a value, or the reason why there is none. Nothing in the tree throws for a world that failed.
#pragma once
#include <cassert>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace replica {

// What the caller can do next, not what went wrong inside.
enum class Code : uint8_t {
    retry,       // may work later, unchanged
    gone,        // what was named does not exist
    denied,      // not allowed here, or not authentic
    full,        // a limit or a disk
    corrupt,     // bytes that cannot be what they claim to be
    unsupported, // known, but not by this version
    invalid,     // the caller's input is wrong; the message says what to do
};

struct Error {
    Code code;
    std::string message;
};

template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
    explicit operator bool() const { return state_.index() == 0; }
    T &operator*() { return *std::get_if<0>(&state_); }
    const T &operator*() const { return *std::get_if<0>(&state_); }
    T *operator->() { return std::get_if<0>(&state_); }
    const T *operator->() const { return std::get_if<0>(&state_); }
    const Error &error() const { return *std::get_if<1>(&state_); }

private:
    std::variant<T, Error> state_;
};

template <> class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)), failed_(true) {}
    explicit operator bool() const { return !failed_; }
    const Error &error() const { return error_; }

private:
    Error error_{Code::retry, {}};
    bool failed_ = false;
};

} // namespace replica
