package libvirt

import (
	"bytes"
	"context"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// linuxCodes says that key codes are those of Linux (VIR_KEYCODE_SET_LINUX).
const linuxCodes = 0

// SendKeys implements hypervisor.Domains.
func (d *Driver) SendKeys(ctx context.Context, machine string, codes []uint32, hold time.Duration) error {
	if len(codes) == 0 || len(codes) > hypervisor.MaxKeys {
		return fault.New(fault.InvalidArgument, "keys: %d are none, or more than %d", len(codes), hypervisor.MaxKeys)
	}
	if err := d.need(ctx, machine, "sent keys", listens); err != nil {
		return err
	}
	return d.control(ctx, machine, "press keys", func(c *conn, dom golibvirt.Domain) error {
		return c.DomainSendKey(dom, linuxCodes, uint32(hold.Milliseconds()), codes, 0)
	})
}

// maxPicture bounds a screenshot; a display of 8192 x 8192 pixels has 192 MiB as PPM.
const maxPicture = 256 << 20

// Screenshot implements hypervisor.Domains. QEMU makes PNG where it can.
func (d *Driver) Screenshot(ctx context.Context, machine string) ([]byte, error) {
	if err := d.need(ctx, machine, "photographed", hypervisor.State.Alive); err != nil {
		return nil, err
	}
	var dom golibvirt.Domain
	err := d.queries.do(ctx, func(c *conn) (err error) {
		dom, err = lookup(c, machine)
		return err
	})
	if err != nil {
		return nil, err
	}
	picture := new(bounded)
	err = d.readStream(ctx, procScreenshot, screenshotOf(dom), picture)
	if isNumber(err, golibvirt.ErrInternalError) {
		return nil, fault.As(fault.FailedPrecondition, err, "machine %q: has no display to photograph", dom.Name)
	}
	return picture.Bytes(), classify(err, "machine %q: screenshot", dom.Name)
}

// bounded is a buffer that refuses to become too large.
type bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxPicture {
		return 0, fault.New(fault.ResourceExhausted, "the picture has more than %d bytes", maxPicture)
	}
	return b.Buffer.Write(p)
}
