/* cmocka wants a config.h; what it would say is given on the command line. */
