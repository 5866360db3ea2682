// Which instruction set the kernels run on: detected once, pinned by FEDAGG_FORCE_ISA, switchable for tests.
#pragma once

#include <string>
#include <vector>

#include "fedagg/kernels.h"

namespace fedagg {

// Tables that this build holds and this CPU runs, best first; the scalar one is always last.
const std::vector<const Kernels*>& available_kernels();

// The table in use. The first call chooses: the one named by FEDAGG_FORCE_ISA, else the best available.
// Throws ArgumentError when FEDAGG_FORCE_ISA names none of available_kernels().
const Kernels& active_kernels();

// Use the named table from now on, in every thread. Throws ArgumentError for a name that is not available.
void set_active_isa(const std::string& name);

// Why the table in use was chosen, in words for `fedagg doctor`.
std::string active_isa_reason();

}  // namespace fedagg
