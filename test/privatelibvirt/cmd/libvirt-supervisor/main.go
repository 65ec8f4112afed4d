// Command libvirt-supervisor is the first process of a private libvirt: it must be started as process 1 of new PID, mount and network
// namespaces (package privatelibvirt does that) and runs virtlogd and libvirtd in them.
//
// Being process 1 it adopts and reaps every guest's process at once, so libvirt never waits for a zombie, and its death ends every
// process of the namespace, so nothing survives it. It lives until its standard input ends: the pipe closes when the process that
// started it goes, however it goes.
//
// Standard input takes one verb a line: "stop" and "start" end and begin libvirtd. Each is answered with "ok" or "error: TEXT" on
// standard output; the first answer says whether the start succeeded.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	dir := flag.String("dir", "", "directory with the instance's etc, run, lib and log folders")
	cache := flag.String("cache", "", "directory for libvirt's capability cache")
	kvm := flag.Bool("kvm", false, "let guests see /dev/kvm")
	remove := flag.Bool("remove", false, "remove the instance's directory at the end")
	flag.Parse()

	err := run(os.Stdin, os.Stdout, instance{dir: *dir, cache: *cache, kvm: *kvm})
	if *remove {
		if rmErr := os.RemoveAll(*dir); err == nil {
			err = rmErr
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "libvirt-supervisor:", err)
		os.Exit(1)
	}
}

// run builds the instance, obeys verbs until in ends, and takes everything down.
func run(in io.Reader, out io.Writer, inst instance) error {
	if os.Getpid() != 1 {
		err := fmt.Errorf("is process %d; it must be process 1 of its own PID namespace", os.Getpid())
		answer(out, err)
		return err
	}
	r := newReaper()
	d := &daemons{reaper: r, dir: inst.dir}
	err := inst.enter()
	if err == nil {
		err = d.startAll()
	}
	answer(out, err)
	if err == nil {
		serve(in, out, d)
	}
	d.stopAll(5 * time.Second)
	r.killEverything()
	return err
}

func serve(in io.Reader, out io.Writer, d *daemons) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch verb := lines.Text(); verb {
		case "stop":
			answer(out, d.stop(libvirtd, 20*time.Second))
		case "start":
			answer(out, d.startLibvirtd())
		default:
			answer(out, fmt.Errorf("unknown verb %q", verb))
		}
	}
}

// answer writes one line. A reader that has gone is seen as the end of standard input.
func answer(out io.Writer, err error) {
	line := "ok\n"
	if err != nil {
		line = fmt.Sprintf("error: %q\n", err.Error())
	}
	_, _ = io.WriteString(out, line)
}
