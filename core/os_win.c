typedef int os_win_is_empty_here;
