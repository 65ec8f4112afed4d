package vsphere

import (
	"context"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// record is a managed object with those of the wanted properties that the server gave.
type record struct {
	ref     types.ManagedObjectReference
	props   map[string]types.AnyType
	missing []types.MissingProperty
}

// prop returns a property, or the zero value if the server gave none of that name and type.
func prop[T any](r record, name string) T {
	v, _ := r.props[name].(T)
	return v
}

// retrieve asks the property collector once and then page by page, and calls each for every object.
func (c *conn) retrieve(ctx context.Context, spec types.PropertyFilterSpec, each func(record)) error {
	pc := c.content.PropertyCollector
	res, err := methods.RetrievePropertiesEx(ctx, c, &types.RetrievePropertiesEx{
		This: pc, SpecSet: []types.PropertyFilterSpec{spec}, Options: types.RetrieveOptions{MaxObjects: c.tune.pageSize},
	})
	if err != nil {
		return err
	}
	if res.Returnval == nil { // nothing matches
		return nil
	}
	page := *res.Returnval
	for {
		for i := range page.Objects {
			each(newRecord(&page.Objects[i]))
		}
		if page.Token == "" {
			return nil
		}
		next, err := methods.ContinueRetrievePropertiesEx(ctx, c, &types.ContinueRetrievePropertiesEx{This: pc, Token: page.Token})
		if err != nil {
			return err
		}
		page = next.Returnval
	}
}

func newRecord(o *types.ObjectContent) record {
	r := record{ref: o.Obj, props: make(map[string]types.AnyType, len(o.PropSet)), missing: o.MissingSet}
	for _, p := range o.PropSet {
		r.props[p.Name] = p.Val
	}
	return r
}

// one returns properties of one object. A property that the account may not read is an error; one that is unset is left out.
func (c *conn) one(ctx context.Context, ref types.ManagedObjectReference, names ...string) (record, error) {
	var found record
	err := c.retrieve(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
		PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: names}},
	}, func(r record) { found = r })
	if err != nil {
		return record{}, err
	}
	for _, m := range found.missing {
		return record{}, &taskError{m.Fault}
	}
	return found, nil
}

// walk retrieves the objects of the given types in the whole inventory.
func (c *conn) walk(ctx context.Context, want []types.PropertySpec, each func(record)) error {
	kinds := make([]string, len(want))
	for i := range want {
		kinds[i] = want[i].Type
	}
	res, err := methods.CreateContainerView(ctx, c, &types.CreateContainerView{
		This: *c.content.ViewManager, Container: c.content.RootFolder, Type: kinds, Recursive: true,
	})
	if err != nil {
		return err
	}
	view := res.Returnval
	defer func() {
		// The view costs the server memory until the session ends, so it goes even if ctx has ended.
		_, _ = methods.DestroyView(context.WithoutCancel(ctx), c, &types.DestroyView{This: view})
	}()
	return c.retrieve(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{
			Obj:  view,
			Skip: new(true),
			SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: view.Type, Path: "view", Skip: new(false)},
			},
		}},
		PropSet: want,
	}, each)
}
