#!/usr/bin/env tclsh
# judge.tcl ?-propose? OUT VERSION CONFIG
#
# Holds what run.tcl wrote to OUT against what is expected of that version of
# SQLite in that configuration, and ends with a line
#
#   N passed, N failed, N expected to differ
#
# Expected differences are in expected/VERSION.txt, a line a case, its fields
# separated by tabs:
#
#   where   globs of CONFIG/SUITE, separated by commas; but for one after a "!"
#   file    test file
#   case    name of the test case, without the permutation's prefix; with a "*" a
#           glob of cases of which some differ in one run and not in the other
#   class   why (below)
#   line    where the case stands in the test file
#   stock   the value that stock SQLite gives
#   ours    the value that page-db gives; after a "~" a glob, for what changes
#           from run to run or with the machine: times, checksums, paths, sizes
#
# A case may have several lines, for configurations that give other values.
#
# A case that fails and is not listed is a failure. So is one that is listed and
# fails with another value, one that is listed and passes, and a file that runs
# less than three quarters of its cases with stock SQLite
# (results/VERSION-stock-SUITE.txt; loops of failing calls vary by a few), unless
# its "FILE-aborted" or "FILE-fewer" is listed.
#
# -propose prints the lines that the list lacks, with the class that the file's
# other lines have, or "?": to be read, judged, and put in by hand. For a case
# that is listed with another value this is the line it would need.
#
# Exit: 0 all as expected, 1 not.
package require Tcl 8.6

set classes {
  size    {a size, an offset or a count (pages, descriptors) that the test has in it}
  chunk   {the test asks for space ahead of need, which page-db does not take where every page is stamped}
  damage  {the test damages the file by hand, and page-db says so before SQLite}
  reserve {the test sets the reserved bytes, asks for them, or assumes that there are none}
  bypass  {the test goes around the VFS: reads or changes the file under an open connection}
  pcache  {the test asks for numbers of SQLite's built-in page cache, which is not there}
  mmap    {stock SQLite gives the same value when every database has a memory map (stock+fetch)}
  skips   {the test ends where the default VFS is not SQLite's own}
  sticky  {a sync of the database fails and the test goes on: nothing succeeds until all have closed the file}
  benign  {an error meets a call that only serves the pool: page-db does without the pool, and the SQL goes on}
  loop    {the test makes one call after the other fail until none is left, and page-db makes fewer}
  time    {the test asks how long a wait took, and the machine had other work}
  stock   {fails with stock SQLite as well}
}

set propose 0
if {[lindex $argv 0] eq "-propose"} {
  set propose 1
  set argv [lrange $argv 1 end]
}
lassign $argv out version config
set here [file dirname [file normalize [info script]]]

proc rows {path fields} {
  set rows [list]
  if {![file exists $path]} {
    return $rows
  }
  set channel [open $path]
  foreach line [split [string trimright [read $channel] \n] \n] {
    if {$line eq "" || [string index $line 0] eq "#"} {
      continue
    }
    set row [split $line \t]
    if {[llength $row] != $fields} {
      puts "judge: $path: not $fields fields: $line"
      exit 1
    }
    lappend rows $row
  }
  close $channel
  return $rows
}

proc applies {where suite} {
  set applies 0
  foreach glob [split $where ,] {
    if {[string match $glob $::config/$suite]} {
      set applies 1
    } elseif {[string match $glob !$::config/$suite]} {
      return 0
    }
  }
  return $applies
}

# The permutation's name is before the case's.
proc bare {suite case} {
  set prefix [expr {$suite eq "mmap" ? "mm-" : "$suite."}]
  if {[string first $prefix $case] == 0} {
    return [string range $case [string length $prefix] end]
  }
  return $case
}

# Whether one of the values that are listed is the one that came.
proc is_listed {values got} {
  foreach value $values {
    if {[string index $value 0] eq "~"} {
      set same [string match [string range $value 1 end] $got]
    } else {
      set same [expr {$value eq $got}]
    }
    if {$same} {
      return 1
    }
  }
  return 0
}

# ------------------------------------------------------------------------ line

# The line of a test file that a case's name begins on: names are often put
# together, so what is looked for gets shorter until it is found.
proc line_of {file case} {
  set path [file join $::tree test $file]
  if {![info exists ::text($file)]} {
    set ::text($file) ""
    if {[file exists $path]} {
      set channel [open $path]
      fconfigure $channel -encoding iso8859-1
      set ::text($file) [split [read $channel] \n]
      close $channel
    }
  }
  set names [list $case]
  if {[regexp {^[^-]+-(.+)$} $case -> rest]} {
    lappend names $rest
  }
  while {[string length [lindex $names 0]] > 1} {
    foreach name $names {
      set n 0
      foreach line $::text($file) {
        incr n
        if {[regexp {^\s*(do_|test)} $line] && [string first $name $line] >= 0} {
          return $n
        }
      }
    }
    set names [lmap name $names { regsub {[-.#]?[^-.#]*$} $name "" }]
    set names [lsearch -all -inline -not -exact $names ""]
    if {[llength $names] == 0} {
      break
    }
  }
  # A name that is all variables.
  set n 0
  foreach line $::text($file) {
    incr n
    if {[regexp {^\s*do_\w*test\s+\S*\$} $line]} {
      return $n
    }
  }
  return 0
}

# ----------------------------------------------------------------------- judge

set results [rows $out/results.txt 6]
set failures [rows $out/failures.txt 5]
set listed [rows $here/expected/$version.txt 7]
set tree $here/../build/sqlite/$version/src

foreach row $listed {
  lassign $row where file case class
  if {![dict exists $classes $class]} {
    puts "judge: expected/$version.txt: $file $case: no class '$class'"
    exit 1
  }
  set class_of($file) $class
}

set cases 0
set expected 0
set bad [list]
set proposals [list]
set suites [lsort -unique [lmap row $results { lindex $row 0 }]]

foreach row $results {
  lassign $row suite file n
  incr cases $n
  set ran($suite,$file) $n
}
# Values that are listed for a case of a suite that ran.
foreach row $listed {
  lassign $row where file case class line stock ours
  foreach suite $suites {
    if {[info exists ran($suite,$file)] && [applies $where $suite]} {
      if {[string first * $case] >= 0} {
        lappend sometimes($suite,$file) $case $ours
      } else {
        lappend want($suite,$file,$case) $ours
      }
    }
  }
}
foreach row $failures {
  lassign $row suite file case stock ours
  set case [bare $suite $case]
  set met($suite,$file,$case) 1
  set values [list]
  if {[info exists want($suite,$file,$case)]} {
    set values $want($suite,$file,$case)
  } elseif {[info exists sometimes($suite,$file)]} {
    foreach {glob value} $sometimes($suite,$file) {
      if {[string match $glob $case]} {
        lappend values $value
      }
    }
  }
  if {[is_listed $values $ours]} {
    incr expected
    continue
  }
  set listing [join [lmap value $values { string cat "\n            listed: " $value }] ""]
  lappend bad "differs   $suite $file $case\n            stock:  $stock$listing\n            ours:   $ours"
  set class [expr {[info exists class_of($file)] ? $class_of($file) : "?"}]
  lappend proposals [join [list [lindex [split $config +] 0]*/* $file $case $class \
    [line_of $file $case] $stock $ours] \t]
}
foreach suite $suites {
  foreach row [rows $here/results/$version-stock-$suite.txt 6] {
    lassign $row - file n
    if {![info exists ran($suite,$file)]} {
      continue
    }
    if {4 * $ran($suite,$file) >= 3 * $n} {
      set enough($suite,$file) 1
    } elseif {![info exists want($suite,$file,$file-aborted)] &&
        ![info exists want($suite,$file,$file-fewer)]} {
      lappend bad "fewer     $suite $file: $ran($suite,$file) of $n cases"
    }
  }
}
foreach key [lsort [array names want]] {
  regexp {^([^,]*),([^,]*),(.*)$} $key -> suite file case
  set differs [expr {$case eq "$file-fewer" ? ![info exists enough($suite,$file)] :
      [info exists met($key)]}]
  if {!$differs} {
    lappend bad "passes    $suite $file $case: listed as different"
  }
}

if {$propose} {
  puts [join $proposals \n]
  exit 0
}
foreach line $bad {
  puts $line
}
puts "[expr {$cases - [llength $failures]}] passed, [llength $bad] failed, $expected expected to differ"
exit [expr {[llength $bad] > 0}]
