/* The C functions that the library calls, each of which calls a Go function of callbacks.go. `user` is a cgo.Handle. */
#include <finermoe.h>

int32_t finermoe_go_progress(void* user, const char* phase, uint64_t done, uint64_t total);
void finermoe_go_log(void* user, int32_t level, const char* message);
void finermoe_go_execute(void* user, size_t n_tasks, finermoe_task_fn task, void* task_data);

/* Runs one task of finermoe_go_execute. */
void finermoe_go_run_task(finermoe_task_fn task, void* task_data, size_t index);
