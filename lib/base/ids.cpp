#include "lib/base/ids.hpp"

namespace replica {

std::string to_hex(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string hex;
    hex.reserve(bytes.size() * 2);
    for (unsigned char c : bytes) {
        hex += digits[c >> 4];
        hex += digits[c & 15];
    }
    return hex;
}

std::string to_string(const Number &number) {
    return std::to_string(number.epoch) + "/" + std::to_string(number.sequence);
}

std::string to_string(const Place &place) { return place.topic + "/" + std::to_string(place.partition); }

} // namespace replica
