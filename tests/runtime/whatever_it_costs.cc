#include "whatever_it_costs.h"

#include "api/handles.h"

void draft_whatever_it_costs(finermoe_generation_options* options) { options->options.drafts.whatever_it_costs = true; }
