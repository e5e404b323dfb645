#include "callbacks.h"

#include "_cgo_export.h"

int32_t finermoe_go_progress(void* user, const char* phase, uint64_t done, uint64_t total) {
  return finermoeGoProgress((uintptr_t)user, (char*)phase, done, total);
}

void finermoe_go_log(void* user, int32_t level, const char* message) {
  finermoeGoLog((uintptr_t)user, level, (char*)message);
}

void finermoe_go_execute(void* user, size_t n_tasks, finermoe_task_fn task, void* task_data) {
  finermoeGoExecute((uintptr_t)user, n_tasks, task, task_data);
}

void finermoe_go_run_task(finermoe_task_fn task, void* task_data, size_t index) { task(task_data, index); }
