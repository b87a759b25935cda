#!/usr/bin/env tclsh
# run.tcl FIXTURE TREE OUT SUITE ?PATTERN...?
#
# Runs the files of a suite, each in a testfixture process of its own, and writes
# what came of it to the folder OUT:
#
#   results.txt   a line for each file: suite, file, cases, errors, milliseconds,
#                 how it ended (ok, failed, aborted, timeout, complained)
#   failures.txt  a line for each failing case: suite, file, case, the value that
#                 was expected, the value that came
#   log/          the whole output of each file that failed
#
# What is no case of a file's becomes one: FILE-aborted, FILE-timeout, and
# FILE-complained for a leak or a sanitizer's report in its output.
#
# Fields are separated by tabs. SUITE is a permutation, or "all": full and the
# permutations that SQLite's release tests run. PATTERN picks files by name; one
# that picks none is an error.
#
# Environment: SUITE_JOBS (2), SUITE_TIMEOUT (900, seconds for a file),
# SUITE_UID (run as this user; testfixture must not be root).
#
# Exit: 0 all files ran, whatever their outcome; 1 the runner itself failed;
# 2 nothing to run.
package require Tcl 8.6

lassign $argv fixture tree out suite
set patterns [lrange $argv 4 end]
set here [file dirname [file normalize [info script]]]

proc setting {name default} {
  if {[info exists ::env($name)] && $::env($name) ne ""} {
    return $::env($name)
  }
  return $default
}
set jobs [setting SUITE_JOBS 2]
set timeout [setting SUITE_TIMEOUT 900]
set uid [setting SUITE_UID ""]

set release {
  full no_optimization memsubsys1 memsubsys2 singlethread multithread onefile
  utf16 exclusive persistent_journal persistent_journal_error no_journal
  no_journal_error autovacuum_crash autovacuum_ioerr no_mutex_try fullmutex
  journaltest inmemory_journal prepare mmap wal coverage-wal coverage-pager
}

# A command line that runs testfixture as the user it has to be. A sanitizer's
# report goes to a file: a test takes the output of its child processes. Tcl does
# not free what it has when it ends; tests ask for more memory than there is.
proc as_user {slot args} {
  set asan detect_leaks=0:allocator_may_return_null=1:log_path=$::out/run/$slot.sanitizer
  set prefix [list env "HOME=$::out/run" "ASAN_OPTIONS=$asan"]
  if {$::uid ne ""} {
    set prefix [concat [list setpriv --reuid=$::uid --regid=$::uid \
      --clear-groups] $prefix]
  }
  concat $prefix $args
}

# testfixture makes a folder where it is started.
proc files_of {suite} {
  set command [as_user list sh -c {cd "$1" && shift && exec "$@"} sh $::out/run \
    $::fixture $::here/one.tcl $::tree list $suite]
  split [string trim [exec {*}$command 2>@stderr]] \n
}

proc wanted {file} {
  if {[llength $::patterns] == 0} {
    return 1
  }
  set wanted 0
  foreach p $::patterns {
    if {[string match $p [file tail $file]]} {
      set ::matched($p) 1
      set wanted 1
    }
  }
  return $wanted
}

# ---------------------------------------------------------------- one file's end

# Values as they stand in a list: on one line, and not without end. What is cut
# off counts by its checksum.
proc shorten {text} {
  set text [string map [list \t " " \n "\\n" \r "\\r"] $text]
  regsub -all {[^ -~]} $text ? text
  if {[string length $text] > 100} {
    set text [format "%s...%08x" [string range $text 0 99] [zlib crc32 $text]]
  }
  return $text
}

# A value is printed in brackets.
proc without_bracket {value} {
  regsub {\]\n*$} $value ""
}

# Cases that failed: a list of {name expected got}, in the order of the output.
proc failing_cases {output} {
  set found [list]
  set field ""
  foreach line [split $output \n] {
    if {[regexp {^! (.+?) (expected: |got:      )\[(.*)$} $line -> name what rest]} {
      if {$what eq "expected: "} {
        lappend found [list $name "" ""]
        set field 1
      } else {
        set field 2
      }
      lset found end $field $rest
      if {$field == 2 && [string index $rest end] eq "\]"} {
        set field ""
      }
    } elseif {[regexp {^Error: (.*)$} $line -> message]} {
      set name [regsub {\.\.\.$} $before ""]
      lappend found [list $name "" "error: $message"]
      set field ""
    } elseif {$field ne ""} {
      lset found end $field "[lindex $found end $field]\n$line"
      # A value may have many lines.
      if {[string index $line end] eq "\]" && $field == 2} {
        set field ""
      }
    }
    set before $line
  }
  lmap case $found {
    lassign $case name expected got
    list $name [without_bracket $expected] [without_bracket $got]
  }
}

# Names that fail more than once get a number. A complaint is the value of
# FILE-complained.
proc write_failures {suite file output names complaint} {
  set details [failing_cases $output]
  foreach name $names {
    set key $name
    if {[incr seen($name)] > 1} {
      set key "$name#$seen($name)"
    }
    set expected ""
    set got [expr {$name eq "$file-complained" ? $complaint : ""}]
    set i [lsearch -exact -index 0 $details $name]
    if {$i >= 0} {
      lassign [lindex $details $i] - expected got
      set details [lreplace $details $i $i]
    }
    puts $::failures [join [list $suite $file $key [shorten $expected] \
      [shorten $got]] \t]
  }
}

# What a process says of itself, whatever its cases came to.
set complaints {^Unfreed memory: |^\d+ files were left open|^SUMMARY: \w+Sanitizer|: runtime error: }

proc finished {slot suite path ms status} {
  global done cases errors
  set file [file tail $path]
  set log $::out/run/$slot.log
  set channel [open $log]
  fconfigure $channel -encoding iso8859-1
  set output [read $channel]
  close $channel
  foreach report [glob -nocomplain $::out/run/$slot.sanitizer.*] {
    set channel [open $report]
    append output \n [read $channel]
    close $channel
    file delete $report
  }
  set n 0
  set e 0
  set names [list]
  set how ok
  set complaint ""
  regexp -line "($::complaints).*" $output complaint
  if {![regexp -line {^(\d+) errors out of (\d+) tests} $output -> e n]} {
    # 137: it did not heed the first signal.
    set late [expr {$status == 124 || ($status == 137 && $ms >= 1000 * $::timeout)}]
    set how [expr {$late ? "timeout" : "aborted"}]
  } elseif {$complaint ne ""} {
    set how complained
  } elseif {$status > 1 || ($e == 0 && $status != 0)} {
    # A crash on the way out.
    set how aborted
  } elseif {$e > 0} {
    set how failed
  }
  if {[regexp -line {^!Failures on these tests:(.*)$} $output -> list]} {
    set names $list
  } else {
    # Without a summary the output is all there is.
    set names [lmap c [failing_cases $output] { lindex $c 0 }]
  }
  if {$n == 0} {
    set n [expr {[regexp -all -line {\.\.\. Ok$} $output] + [llength $names]}]
  }
  if {$how in {aborted timeout complained}} {
    lappend names "$file-$how"
    incr n
    set e [llength $names]
  }
  puts $::results [join [list $suite $file $n $e $ms $how] \t]
  flush $::results
  if {[llength $names] > 0} {
    write_failures $suite $file $output $names $complaint
    flush $::failures
    set channel [open $::out/log/$suite-[file rootname $file].txt w]
    fconfigure $channel -encoding iso8859-1
    puts -nonewline $channel $output
    close $channel
  }
  incr done
  incr cases $n
  incr errors [llength $names]
  if {$how eq "timeout"} {
    say "timeout: $file ($suite) ran longer than $::timeout s; it ended with:\
      [shorten [lindex [split [string trimright $output] \n] end]]"
  }
  progress
}

# --------------------------------------------------------------------- progress

proc say {text} {
  if {$::terminal} {
    puts -nonewline "\r\033\[K"
  }
  puts $text
  flush stdout
}

proc progress {} {
  set s [expr {[clock seconds] - $::started}]
  set line [format "%d of %d files, %d cases, %d failing, %d:%02d" $::done \
    $::total $::cases $::errors [expr {$s / 60}] [expr {$s % 60}]]
  if {$::terminal} {
    puts -nonewline "\r\033\[K$line"
    flush stdout
  } elseif {$::done % 200 == 0 || $::done == $::total} {
    puts $line
    flush stdout
  }
}

# -------------------------------------------------------------------------- jobs

# The shell keeps the pipe open until testfixture ends: that is what is waited for,
# without keeping the other slots waiting.
proc start_next {slot} {
  if {[llength $::queue] == 0} {
    if {[incr ::idle] == $::jobs} {
      set ::over 1
    }
    return
  }
  set ::queue [lassign $::queue job]
  lassign $job suite path
  set dir $::out/run/$slot
  exec {*}[as_user $slot sh -c "chmod -R u+rwX $dir 2>/dev/null; rm -rf $dir; mkdir -p $dir"]
  set command [as_user $slot sh -c \
    {cd "$1" && shift && log=$1 && shift && "$@" >"$log" 2>&1 </dev/null} sh \
    $dir $::out/run/$slot.log timeout -k 5 $::timeout $::fixture \
    $::here/one.tcl $::tree run $suite $path]
  set channel [open |$command r]
  fconfigure $channel -blocking 0
  fileevent $channel readable \
    [list ended $channel $slot $suite $path [clock milliseconds]]
}

proc ended {channel slot suite path began} {
  read $channel
  if {![eof $channel]} {
    return
  }
  fconfigure $channel -blocking 1
  set status 0
  if {[catch {close $channel} - options]} {
    set code [dict get $options -errorcode]
    set status [expr {[lindex $code 0] eq "CHILDSTATUS" ? [lindex $code 2] : 255}]
  }
  # An error of ours must not leave the slot waiting for ever.
  if {[catch {finished $slot $suite $path [expr {[clock milliseconds] - $began}] $status}]} {
    say "run.tcl: $path: $::errorInfo"
    set ::broken 1
    set ::queue [list]
  }
  start_next $slot
}

set terminal [expr {![catch {exec test -t 1 >@stdout}]}]
file mkdir $out/log $out/run
if {$uid ne ""} {
  exec chown $uid:$uid $out/run
}
set queue [list]
foreach s [expr {$suite eq "all" ? $release : [list $suite]}] {
  foreach f [files_of $s] {
    if {[wanted $f]} {
      lappend queue [list $s $f]
    }
  }
}
set total [llength $queue]
foreach p $patterns {
  if {![info exists matched($p)]} {
    puts stderr "run.tcl: no file of suite $suite matches $p"
    set total 0
  }
}
if {$total == 0} {
  exit 2
}
set results [open $out/results.txt w]
set failures [open $out/failures.txt w]
set done 0
set cases 0
set errors 0
set idle 0
set broken 0
set started [clock seconds]
for {set slot 0} {$slot < $jobs} {incr slot} {
  start_next $slot
}
vwait over
if {$terminal} {
  puts ""
}
close $results
close $failures
exit $broken
