// What the machines ask of a change without reading its payload. Pure, any thread.
#pragma once
#include "lib/wire/change.hpp"
#include <optional>

namespace replica {

std::optional<Object>
created_by(const Change &); // the mailbox that a list_create makes: its first mark is the change's number
std::optional<Object> deleted_by(const Change &); // the mailbox that a list_delete takes away
bool touches(const Change &, const Object &);     // the object's mark gets the change's number
std::string in_words(const Object &);             // for the log: never a name

// Payload of the changes in one Apply request, unless a single one is larger; the frame's limit is twice that.
inline constexpr size_t apply_bytes_max = 8u << 20;

} // namespace replica
