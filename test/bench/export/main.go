// Command export measures an export from a vCenter to qcow2: hyperexport against govc export.ovf followed by qemu-img convert, on the same
// machine, in the same run, from the same simulator, taking turns.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/hyperplane-project/hyperplane/test/bench/gauge"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

const (
	rounds   = 3
	diskSize = 2 << 30
	password = "bench-password"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-export:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("/dev/shm", "hp-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk := filepath.Join(dir, "disk.raw")
	data, err := makeDisk(disk)
	if err != nil {
		return err
	}
	govc := filepath.Join(dir, "govc")
	if _, err := proc.Run(ctx, nil, "go", "build", "-o", govc, "./cmd/internal/govc"); err != nil {
		return err
	}
	sim, env, err := startVCenter(ctx, dir, disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Stop()) }()
	fmt.Printf("disk of %d MiB, %d MiB of it data; %d rounds in turn, in memory\n", diskSize>>20, data>>20, rounds)
	var ours, full, theirs []gauge.Cost
	for range rounds {
		a, err := hyperexport(ctx, dir, disk, env, "--manifest-hash", "none", "--no-content-hash")
		if err != nil {
			return err
		}
		c, err := hyperexport(ctx, dir, disk, env)
		if err != nil {
			return err
		}
		full = append(full, c)
		b, err := govcAndQemu(ctx, dir, disk, govc, env)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	report(ours, full, theirs)
	return nil
}

// makeDisk writes a disk like one in use: half text that compresses, a quarter that does not, a quarter never written.
func makeDisk(path string) (data int64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(diskSize); err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 1<<20)
	for off := int64(0); off < diskSize; off += int64(len(block)) {
		letters := 1 << 8
		switch kind := r.IntN(4); kind {
		case 0:
			continue
		case 1, 2:
			letters = 24
		}
		for i := 0; i < len(block); i += 8 {
			v := r.Uint64()
			for j := range 8 {
				block[i+j] = byte((v >> (8 * j)) % uint64(letters))
			}
		}
		if _, err := f.WriteAt(block, off); err != nil {
			return 0, err
		}
		data += int64(len(block))
	}
	return data, nil
}

func startVCenter(ctx context.Context, dir, disk string) (*proc.Program, []string, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("password"), []byte(password), 0o600); err != nil {
		return nil, nil, err
	}
	sim, err := proc.Start(nil, nil, "bin/vcentersim", "--username", "bench", "--password-file", file("password"), "--cert-out", file("ca.pem"),
		"--url-file", file("url"), "--cache-dir", dir, "--prepare", "--vm", "name=bench,disk="+disk)
	if err != nil {
		return nil, nil, err
	}
	url, err := sim.File(ctx, file("url"))
	return sim, []string{
		"GOVC_URL=" + url, "GOVC_USERNAME=bench", "GOVC_PASSWORD=" + password, "GOVC_TLS_CA_CERTS=" + file("ca.pem"), "GOVC_INSECURE=0",
	}, err
}

func hyperexport(ctx context.Context, dir, disk string, env []string, args ...string) (gauge.Cost, error) {
	out := filepath.Join(dir, "ours")
	if err := os.Mkdir(out, 0o700); err != nil {
		return gauge.Cost{}, err
	}
	defer os.RemoveAll(out)
	args = append([]string{"export", "--vm", "bench", "--format", "qcow2", "--output", out, "--progress", "none", "-q"}, args...)
	c, err := gauge.Run(ctx, env, "bin/hyperexport", args...)
	if err != nil {
		return c, err
	}
	return c, same(ctx, disk, filepath.Join(out, "bench", "bench-disk1.qcow2"))
}

func govcAndQemu(ctx context.Context, dir, disk, govc string, env []string) (gauge.Cost, error) {
	out := filepath.Join(dir, "theirs")
	defer os.RemoveAll(out)
	a, err := gauge.Run(ctx, env, govc, "export.ovf", "-vm", "/DC0/vm/bench", out)
	if err != nil {
		return a, err
	}
	found, err := filepath.Glob(filepath.Join(out, "bench", "*.vmdk"))
	if err != nil || len(found) != 1 {
		return a, fmt.Errorf("govc left %v, %w", found, err)
	}
	qcow2 := filepath.Join(out, "disk.qcow2")
	b, err := gauge.Run(ctx, nil, "qemu-img", "convert", "-W", "-m", "16", "-O", "qcow2", found[0], qcow2)
	if err != nil {
		return a, err
	}
	return a.Add(b), same(ctx, disk, qcow2)
}

func same(ctx context.Context, disk, qcow2 string) error {
	_, err := proc.Run(ctx, nil, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, qcow2)
	return err
}

func report(ours, full, theirs []gauge.Cost) {
	a, b := gauge.Median(ours), gauge.Median(theirs)
	fmt.Printf("%-38s %10s %10s %10s\n", "median", "wall", "CPU", "peak RSS")
	for _, row := range []struct {
		name string
		c    gauge.Cost
	}{{"hyperexport, source digests checked", a}, {"hyperexport, all hashes, OVF, manifest", gauge.Median(full)}, {"govc export.ovf + qemu-img convert -W", b}} {
		fmt.Printf("%-38s %9.2fs %9.2fs %6d MiB\n", row.name, row.c.Wall.Seconds(), row.c.CPU.Seconds(), row.c.Peak>>10)
	}
	fmt.Printf("hyperexport is %.2fx as fast, with %.2fx the CPU seconds (CPU is the exporters', the simulator's is not counted)\n",
		b.Wall.Seconds()/a.Wall.Seconds(), a.CPU.Seconds()/b.CPU.Seconds())
}
