import { CloseButton, TextInput } from '@mantine/core';
import { Icon } from './icons';

interface SearchInputProps {
  /** What the text narrows down, for screen readers. */
  label: string;
  placeholder: string;
  value: string;
  maxLength: number;
  onChange: (text: string) => void;
}

/** A field for text to look for, with a button that empties it. */
export function SearchInput({ label, placeholder, value, maxLength, onChange }: SearchInputProps) {
  return (
    <TextInput
      aria-label={label}
      placeholder={placeholder}
      value={value}
      maxLength={maxLength}
      leftSection={<Icon name="search" size={12} />}
      rightSection={value && <CloseButton size="xs" aria-label="Clear the filter" onClick={() => onChange('')} />}
      onChange={(event) => onChange(event.currentTarget.value)}
    />
  );
}
