// Who signs: from the settings, from a file as AWS's tools write it, or from the environment. A file that was changed
// is read again, so that keys and tokens can be exchanged while sessions go on. Fails: naming the place that was looked
// at, never what stands in it.
#pragma once
#include "lib/base/result.hpp"
#include "plugin/fs_s3/s3-location.hpp"
#include "plugin/fs_s3/s3-sign.hpp"
#include <array>
#include <string>
#include <string_view>

namespace replica::s3 {

Result<Credentials> parse_credentials(std::string_view text, std::string_view profile);

class CredentialSource {
public:
    explicit CredentialSource(const Location &location);
    Result<Credentials> current();
    const std::string &place() const { return place_; } // for people

private:
    Result<Credentials> read_file();

    Credentials fixed_;
    std::string file_, profile_, place_;
    std::array<int64_t, 4> read_state_{}; // of the file that `fixed_` was read from: device, inode, change time
};

} // namespace replica::s3
