# Runs inside testfixture.
#
#   one.tcl TREE list             names of the permutations
#   one.tcl TREE list SUITE       files of one
#   one.tcl TREE run SUITE FILE   run one test file
#
# SUITE is a permutation of SQLite's permutations.test. A process for each file:
# the runner of SQLite's older versions has one for many, where a crash or a hang
# takes the rest with it. Variables are in a namespace, out of the tests' way.
namespace eval one {
  lassign $::argv tree verb suite script
  set ::argv [list]
  set ::testdir [file join $tree test]
  set ::argv0 [file join $::testdir one.tcl]
}
source [file join $testdir permutations.test]

namespace eval one {
  proc absolute {file} {
    file normalize [file join $::testdir $file]
  }

  proc show {suite} {
    if {$suite eq ""} {
      puts [join [lsort [array names ::testspec]] \n]
    } elseif {[info exists ::testspec($suite)]} {
      array set options $::testspec($suite)
      puts [join [lsort -unique [lmap f $options(-files) { absolute $f }]] \n]
    } else {
      puts stderr "no such suite: $suite"
      exit 2
    }
  }

  proc prepare {suite} {
    global G
    variable options
    array set options $::testspec($suite)
    set G(perm:dbconfig) $options(-dbconfig)
    set G(perm:presql) $options(-presql)
    if {$suite eq "full"} {
      unset -nocomplain G(isquick)
    } else {
      set G(isquick) 1
      set G(perm:name) $suite
      set G(perm:prefix) $options(-prefix)
    }
    # A file ends with finish_test, which ends the process: what the permutation
    # has to undo comes before.
    rename ::finish_test ::one::end_of_file
    proc ::finish_test {} {
      uplevel #0 $::one::options(-shutdown)
      uplevel 1 ::one::end_of_file
    }
  }
}

if {$one::verb eq "list"} {
  one::show $one::suite
  exit 0
}
# What permutations.test's loops leave behind.
unset -nocomplain f
one::prepare $one::suite
eval $one::options(-initialize)
reset_db
source [one::absolute $one::script]
# One that returns early, since it is for another system.
finish_test
