/*
 * The words of the hook contract that both sides share: exit statuses and
 * levels of consistency. neap-hook(7) is their meaning.
 */
#ifndef NEAP_HOOKS_CONTRACT_H
#define NEAP_HOOKS_CONTRACT_H

enum hook_exit {
	HOOK_OK = 0,
	HOOK_FAILED = 1,
	HOOK_USAGE = 2,
	HOOK_DAMAGE = 4,       /* validate: a check ran and found damage */
	HOOK_UNCHECKED = 5,    /* validate: could not check */
	HOOK_UNPROVEN = 62,    /* quiesce: go on as crash-consistent */
	HOOK_REFUSED = 63,     /* stop; the reason is on stderr */
	HOOK_UNSUPPORTED = 69, /* this hook has no such verb (EX_UNAVAILABLE) */
	HOOK_BUSY = 75,        /* try again (EX_TEMPFAIL) */
};

#define HOOK_ENV "NEAP_HOOK_CONFIG"

#endif
