// Requests that draft for every pass, so that what a test finds does not depend on the machine's speed.
#pragma once

#include <finermoe.h>

void draft_whatever_it_costs(finermoe_generation_options* options);
