/*
 * One error idiom for the whole product.
 *
 * Functions return int: >= 0 is success, < 0 is an errno. The last parameter
 * is a struct err that gathers the text: the place that detects the failure
 * sets it, callers put context in front ("store chunk ab12: write: No space
 * left on device"), the program prints it once. No allocation, so it works
 * when memory or disk is gone. Not shared between threads.
 *
 * Codes with a meaning of their own:
 *   -ENOENT      it is not there
 *   -EBADMSG     the bytes do not match their digest or format (corrupt)
 *   -EKEYREJECTED  the key does not fit, or is not here
 *   -ESTALE      cannot vouch for continuity: take a full scan
 *   -EOPNOTSUPP  this driver cannot do that here
 *   -EBUSY       held by somebody else
 *   -EINVAL      bad configuration or usage
 *   -EPERM       refused: a law would be broken
 *   -ECANCELED   told to stop
 *   -EEXIST      the name is taken (names are created once)
 */
#ifndef NEAP_CORE_ERR_H
#define NEAP_CORE_ERR_H

#define ERR_TEXT_MAX 1536

struct err {
	int code; /* the negative errno, 0 while nothing failed */
	char text[ERR_TEXT_MAX];
};

#define ERR_NONE                                                               \
	{                                                                      \
		0                                                              \
	}

/* Set the text; returns `code` (negative). Overwrites an earlier text. */
int err_set(struct err *e, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Like err_set with ": strerror(errnum)" behind; returns -errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " in front of the text; returns the code that it holds. */
int err_wrap(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Append " (hint)" behind the text: what the user can do. Returns the code. */
int err_hint(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Forget the error; returns 0. */
int err_clear(struct err *e);

/* Copy `from` over `to`; returns the code. */
int err_copy(struct err *to, const struct err *from);

/*
 * The documented exit status for a result: 0 done, 1 failed, 2 usage or
 * configuration (-EINVAL), 3 refused (-EPERM, -EBUSY), 4 corrupt (-EBADMSG),
 * 5 could not check (-EKEYREJECTED).
 */
int err_exit_status(int code);

#endif
