// Bodies that were read before, in files of a local directory: a second read does not go to the store of bodies.
// A file is a blob as it is there, and is checked whole at each use: whatever is in the directory, nothing else is
// handed out. Processes share it by rename and unlink alone; all of it may be deleted at any time.
// Limits: the size is kept for each of 256 folders, by removing what was not used for longest; it may be exceeded by an
// eighth. A body larger than a folder's share is not kept.
// Fails: never; a cache that cannot be used is none.
#pragma once
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

bool cbox_cache_has(CboxStorage *storage, const Guid &blob);
// No body: it is not there.
CboxBody cbox_cache_open(CboxStorage *storage, struct event *event, const CboxRecord &record);
// The body's stream is left at its beginning.
void cbox_cache_add(CboxStorage *storage, const Guid &blob, const CboxBody &body);

} // namespace replica
