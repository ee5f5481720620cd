import { createTheme, Button, Drawer, SegmentedControl, TextInput, Skeleton } from '@mantine/core';

/**
 * The defaults of Mantine's components. Colours and distances are in
 * tokens.css. Drawers do not lock the page's scrolling, because Mantine does
 * that with a style element, which the content security policy forbids.
 */
export const theme = createTheme({
  primaryColor: 'blue',
  defaultRadius: 6,
  cursorType: 'pointer',
  components: {
    Button: Button.extend({
      defaultProps: { size: 'xs', variant: 'default' },
      // The accent is light in the dark scheme, where white text on it could not be read.
      vars: (_, props) => ({ root: props.variant === 'filled' ? { '--button-bg': 'var(--accent)', '--button-hover': 'var(--accent)', '--button-color': 'var(--on-accent)' } : {} }),
    }),
    SegmentedControl: SegmentedControl.extend({ defaultProps: { size: 'xs' } }),
    TextInput: TextInput.extend({ defaultProps: { size: 'xs' } }),
    DrawerRoot: Drawer.Root.extend({ defaultProps: { lockScroll: false } }),
    Skeleton: Skeleton.extend({ defaultProps: { radius: 4 } }),
  },
});
