package engine

import "context"

// zeroBlock is how many zeros are hashed between two looks at the context.
const zeroBlock = 64 << 10

// hash feeds the zeros before the window and the window itself to the hash, in the windows' order.
func (k *worker) hash(ctx context.Context, w *window) error {
	if err := wait(ctx, w.digest); err != nil {
		return err
	}
	zeros := make([]byte, min(w.gap, zeroBlock))
	for left := w.gap; left > 0; left -= int64(len(zeros)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		zeros = zeros[:min(left, zeroBlock)]
		k.opts.Hash.Write(zeros)
	}
	k.opts.Hash.Write(k.plain[:min(k.span, k.size-w.off)])
	if err := k.saveHash(); err != nil {
		return err
	}
	close(w.hashed)
	return nil
}
