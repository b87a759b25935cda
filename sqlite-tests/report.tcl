#!/usr/bin/env tclsh
# report.tcl: writes docs/sqlite-tests.md from what is stored in results/ (by
# KEEP=1 run.sh, all.sh sqlite-test-all) and from the lists of expected
# differences.
package require Tcl 8.6

set here [file dirname [file normalize [info script]]]
set out [open [file join [file dirname $here] docs sqlite-tests.md] w]

# The first line of a stored run: version, configuration, suite, cases passed,
# failed, different as expected, seconds (0: not to be compared, the machine had
# other work).
proc runs {} {
  set runs [list]
  foreach path [lsort [glob -nocomplain [file join $::here results *.txt]]] {
    set channel [open $path]
    set head [gets $channel]
    set files -1
    while {[gets $channel line] >= 0} {
      incr files [expr {[string index $line 0] ne "#"}]
    }
    incr files
    close $channel
    if {![regexp {^# (\S+) (\S+) (\S+): (\d+) passed, (\d+) failed, (\d+) expected to differ, (\d+) s$} \
        $head -> version config suite passed failed differ seconds]} {
      puts stderr "report: $path is no stored run"
      exit 1
    }
    lappend runs [list $version $suite $config $files $passed $differ $failed $seconds]
  }
  return $runs
}

proc order {a b} {
  foreach i {0 1} {
    set c [string compare [lindex $a $i] [lindex $b $i]]
    if {$c != 0} {
      return $c
    }
  }
  # Stock first.
  set x [string match stock* [lindex $a 2]]
  set y [string match stock* [lindex $b 2]]
  expr {$x != $y ? $y - $x : [string compare [lindex $a 2] [lindex $b 2]]}
}

proc table {runs} {
  puts $::out "| SQLite | suite | configuration | files | cases passed | expected to differ | failed | time beside stock |"
  puts $::out "|---|---|---|---|---|---|---|---|"
  foreach run $runs {
    lassign $run version suite config - - - - seconds
    if {$config eq "stock"} {
      set stock($version,$suite) $seconds
    }
  }
  foreach run $runs {
    lassign $run version suite config files passed differ failed seconds
    set ratio ""
    if {$seconds > 0 && [info exists stock($version,$suite)] && $stock($version,$suite) > 0} {
      set ratio [format %.2f [expr {double($seconds) / $stock($version,$suite)}]]
    }
    puts $::out "| $version | $suite | $config | $files | $passed | $differ | $failed | $ratio |"
  }
}

proc classes {} {
  set channel [open [file join $::here judge.tcl]]
  regexp {\nset classes (\{\n.*?\n\})} [read $channel] -> classes
  close $channel
  return [lindex $classes 0]
}

proc lists {} {
  puts $::out "| SQLite | class | meaning | files | cases |"
  puts $::out "|---|---|---|---|---|"
  foreach path [lsort [glob -nocomplain [file join $::here expected *.txt]]] {
    set version [file rootname [file tail $path]]
    array unset cases
    array unset files
    set channel [open $path]
    while {[gets $channel line] >= 0} {
      if {$line eq "" || [string index $line 0] eq "#"} {
        continue
      }
      lassign [split $line \t] where file case class
      incr cases($class)
      dict set files($class) $file 1
    }
    close $channel
    dict for {class text} [classes] {
      if {[info exists cases($class)]} {
        puts $::out "| $version | $class | $text | [dict size $files($class)] | $cases($class) |"
      }
    }
  }
}

set channel [open [file join $here report.head.md]]
puts -nonewline $out [read $channel]
close $channel
table [lsort -command order [runs]]
puts $out "\n## Expected differences\n"
puts $out "Each is listed in [file join sqlite-tests expected] with test file, case, class, line, stock's value and ours.\n"
lists
close $out
