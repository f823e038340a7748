// One value of each type of docs/formats, every field set, as bytes. They are the golden vectors, the seeds of the
// fuzzers and what the codec tests cut, stretch and bend.
#pragma once
#include "lib/base/result.hpp"
#include "lib/seal/envelope.hpp"
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace replica::golden {

struct Vector {
    std::string name; // of its file in vectors/, without .hex
    std::string bytes;
    Result<std::string> (*recode)(std::string_view); // decodes, and encodes again
    friend std::ostream &operator<<(std::ostream &out, const Vector &vector) { return out << vector.name; }
};
const std::vector<Vector> &vectors();

KeyRing ring(); // its text is in vectors/key-file.txt
std::string key_file();
EnvelopeHeader envelope_header();
inline constexpr std::string_view nonce = "twelve bytes";
inline constexpr std::string_view plaintext = "what only the two stores may know";

} // namespace replica::golden
