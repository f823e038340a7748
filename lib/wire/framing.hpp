// A variant's value as a frame: u32 length of what follows, u8 type, the alternative's fields. Internal to lib/wire.
#pragma once
#include "lib/wire/fields.hpp"

namespace replica {

template <class Variant> std::string framed(const Variant &value, uint8_t first_type) {
    std::string body;
    Encoder to(body);
    put_alternative(to, value, first_type);
    return encode_fields(body); // a string's length stands before it
}

} // namespace replica
