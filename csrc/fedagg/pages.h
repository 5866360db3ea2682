// Pages of programs and libraries that loading has touched: relocations, initialisers, code that runs once.
#pragma once

namespace fedagg {

// Unmap the pages of the read-only segments of all that is loaded, unless nothing was loaded since a call returned
// `seen`. The file has them: what is used again is mapped again, from the page cache if it is there still. Returns the
// number of loads so far. Does nothing, and returns 0, where the system has no list of what is loaded.
unsigned long long unmap_loaded_pages(unsigned long long seen) noexcept;

}  // namespace fedagg
