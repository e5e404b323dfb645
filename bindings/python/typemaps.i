/* How finermoe.h's conventions look in Python's low layer, finermoe._lowlevel:
 *
 *   errors                   exceptions that the upper layer makes (set_error_factory)
 *   (data, length)           str, bytes, any buffer of the right element, or a sequence of numbers
 *   (data, capacity, needed) text and bytes are returned. Arrays are filled in place: the caller gives a writable
 *                            buffer (numpy's, say), or None to ask for the size, and gets `needed`; too small is no
 *                            exception
 *   finermoe_event           a tuple (text, token, logprob, finish_reason, top)
 *   callbacks                callables, kept alive by the upper layer for as long as the object that may call them
 *
 * Every function of the header runs without the GIL. Ctrl-C raises the cancel object of the call that runs on the main
 * thread, at once.
 */
%{
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the typemaps below declare in a wrapper hides these; a wrapper without such an argument sees NULL. */
static finermoe_error *fm_error;
static struct finermoe_space *const fm_space = NULL;
static struct finermoe_interrupt *const fm_interrupt = NULL;
%}

%include "python/typemaps/errors.i"
%include "python/typemaps/interrupts.i"
%include "python/typemaps/results.i"
%include "python/typemaps/text.i"
%include "python/typemaps/space.i"
%include "python/typemaps/arrays.i"
%include "python/typemaps/callbacks.i"
%include "python/typemaps/module.i"
