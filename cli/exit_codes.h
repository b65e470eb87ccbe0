/* exit_codes.h - what the status of the program means; scripts rely on these numbers. */
#ifndef CLI_EXIT_CODES_H
#define CLI_EXIT_CODES_H

enum exit_code {
    EXIT_OK = 0,
    EXIT_INTERNAL = 1,    /* a defect of the program */
    EXIT_USAGE = 2,       /* a wrong command, option or value */
    EXIT_DATA = 3,        /* a data or model file is missing, corrupt, or has a wrong shape */
    EXIT_DEVICE = 4,      /* no usable OpenCL device, or its driver failed */
    EXIT_MEMORY = 5,      /* host or device memory is exhausted */
    EXIT_IO = 6,          /* writing or reading failed: full disk, permission */
    EXIT_DIVERGED = 7,    /* training reached a loss that is not finite */
    EXIT_GATE = 8,        /* a required figure was not reached (--min-auroc) */
    EXIT_SKIPPED = 77,    /* a test that could not run */
    EXIT_INTERRUPT = 130, /* SIGINT */
    EXIT_TERMINATE = 143  /* SIGTERM, SIGHUP */
};

#endif
